"""Every metric of the server, its unit and meaning above it."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# sessions in memory, those being loaded included
SESSIONS_CACHED = Gauge("ray_history_sessions_cached", "sessions in memory")

# bytes those sessions take, about
CACHE_BYTES = Gauge("ray_history_cache_bytes", "bytes of memory that sessions take")

# seconds from the first look at a session to its whole index
LOAD_SECONDS = Histogram(
    "ray_history_load_seconds", "seconds to load one session", buckets=(0.03, 0.1, 0.3, 1, 3, 10, 30, 120)
)

# sessions dropped from memory, by why: memory | too_large | gone
SESSIONS_DROPPED = Counter("ray_history_sessions_dropped_total", "sessions dropped from memory", ["reason"])

# turns of sessions that nobody asked for, by what came of them: counted | found (in the store) | unchanged | too_large |
# failed | gone
BACKFILL_DONE = Counter("ray_history_backfill_sessions_total", "sessions counted in the background", ["result"])

# sessions that wait for their turn, those to be looked at again included
BACKFILL_PENDING = Gauge("ray_history_backfill_pending", "sessions to be counted in the background")

# sessions skipped because they are too large to be counted unasked
BACKFILL_SKIPPED = Gauge("ray_history_backfill_skipped", "sessions too large to be counted in the background")

# sessions whose last turn failed; each has another one, ever later
BACKFILL_FAILING = Gauge("ray_history_backfill_failing", "sessions that could not be counted in the background")

# segments read from the store
SEGMENTS_READ = Counter("ray_history_segments_read_total", "segments read")

# objects that are not what their place says they are
SEGMENTS_BAD = Counter("ray_history_segments_bad_total", "objects that could not be read as segments")

# requests answered 503 because the store could not be read
STORE_DOWN_ANSWERS = Counter("ray_history_store_down_answers_total", "requests refused because the store is away")

# messages taken from the push channel, by word: hello | batch | sealed | alive | log | bye
PUSHES_TAKEN = Counter("ray_history_pushes_taken_total", "pushed messages taken", ["word"])

# pushes refused, by status
PUSHES_REFUSED = Counter("ray_history_pushes_refused_total", "pushes refused", ["status"])

# requests to read that were refused, by status: 401 without a token, 403 with one that opens nothing
READS_REFUSED = Counter("ray_history_reads_refused_total", "requests refused for want of a token", ["status"])

# bytes of pushed records that are held until they are sealed, of all sessions
LIVE_BYTES = Gauge("ray_history_live_bytes", "bytes of pushed records held")

# pushed messages let go before they were sealed because --live-bytes were taken; the store fills the hole
LIVE_DROPPED = Counter("ray_history_live_dropped_total", "pushed messages dropped for lack of room")

# logs of live sessions that are followed by push
LOG_TAILS = Gauge("ray_history_log_tails", "logs followed by push")

# bytes of their ends that are held, those that were sent on included
LOG_TAIL_BYTES = Gauge("ray_history_log_tail_bytes", "bytes held of logs that are followed")

# pushed messages that could not be applied
PUSHES_BAD = Counter("ray_history_pushes_bad_total", "pushed messages that could not be applied")

# times a collector was asked to close a segment because pushed records didn't follow on what was known
SEALS_ASKED = Counter("ray_history_seals_asked_total", "segments asked for")

# event streams that are open
STREAMS = Gauge("ray_history_streams", "event streams open")

# event streams cut because their client did not read them
STREAMS_CUT = Counter("ray_history_streams_cut_total", "event streams cut for lack of a reader")

# event streams that went on with a gap because what they had missed could not be told any more
STREAMS_RESYNCED = Counter("ray_history_streams_resynced_total", "event streams that missed something")
