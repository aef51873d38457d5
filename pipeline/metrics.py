"""Every metric of the collector, its unit and meaning above it. The words of a label also stand in the log."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

# posts answered, by the status of the answer
POSTS = Counter("ray_history_posts_total", "posts answered", ["status"])

# bytes of posts that were taken, unpacked
POST_BYTES = Counter("ray_history_post_bytes_total", "bytes of posts that were taken")

# posted records, by what became of them: accepted | duplicate | quarantined
RECORDS_POSTED = Counter("ray_history_records_posted_total", "posted records", ["outcome"])

# bytes on disk that wait for the store, or are kept to know what is posted again
SPOOL_BYTES = Gauge("ray_history_spool_bytes", "bytes of the spool on disk")

# lines taken from sources, by the dialect of the source
LINES_READ = Counter("ray_history_lines_read_total", "lines read from sources", ["dialect"])

# bytes taken from sources, by the dialect of the source
BYTES_READ = Counter("ray_history_bytes_read_total", "bytes read from sources", ["dialect"])

# lines that are stored but that the index will skip, by why: malformed | unknown_type
LINES_NOT_UNDERSTOOD = Counter("ray_history_lines_not_understood_total", "lines stored but not understood", ["why"])

# lines that no segment holds because they are too long; their bytes are kept in quarantine/
LINES_TOO_LONG = Counter("ray_history_lines_too_long_total", "lines kept aside because they are too long")

# bytes of sources that were gone before they were read, by why: deleted | truncated
BYTES_LOST = Counter("ray_history_bytes_lost_total", "bytes gone before they were read", ["why"])

# segments stored and committed, by why they were closed: full | age | idle | shutdown | asked
SEGMENTS = Counter("ray_history_segments_total", "segments committed", ["reason"])

# bytes of those segments as they stand in the store (compressed)
SEGMENT_BYTES = Counter("ray_history_segment_bytes_total", "compressed bytes of committed segments")

# seconds from the first byte put to the commit of a segment, retries included
SHIP_SECONDS = Histogram(
    "ray_history_ship_seconds", "seconds to store one segment", buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 120)
)

# times another collector had written the segment that this one was about to write, and its cursor was taken over
SUPERSEDED = Counter("ray_history_superseded_total", "segments given up because another collector wrote first")

# requests to the store that failed and are tried again, by kind of error
STORE_FAILURES = Counter("ray_history_store_failures_total", "failed requests to the store", ["kind"])

# 1 while the store takes requests, 0 while the collector waits for it
STORE_UP = Gauge("ray_history_store_up", "whether the store answers")

# bytes seen in sources and not read yet, by session
BYTES_UNREAD = Gauge("ray_history_bytes_unread", "bytes seen but not read yet", ["session"])

# checkpoints that could not be written or read; the store is asked instead
CHECKPOINT_FAILURES = Counter(
    "ray_history_checkpoint_failures_total", "checkpoints not written or not readable", ["what"]
)

# records and posts kept aside in the store's quarantine/
QUARANTINED = Counter("ray_history_quarantine_files_total", "quarantine files stored")

# bytes of plain log files stored, as they are in the files
LOG_BYTES = Counter("ray_history_log_bytes_total", "bytes of log files stored")

# bytes of those as they stand in the store (compressed)
LOG_CHUNK_BYTES = Counter("ray_history_log_chunk_bytes_total", "compressed bytes of chunks of log files")

# chunks of log files stored or found stored
LOG_CHUNKS = Counter("ray_history_log_chunks_total", "chunks of log files stored")

# bytes of log files pushed to those who follow them; the same bytes are stored in chunks
LOG_BYTES_PUSHED = Counter("ray_history_log_pushed_bytes_total", "bytes of log files pushed to followers")

# bytes of log files that were truncated or deleted before they were stored
LOG_BYTES_LOST = Counter("ray_history_log_bytes_lost_total", "bytes of log files gone before they were stored")

# answers of the dashboard stored because they were new or other than before
ANSWERS_KEPT = Counter("ray_history_answers_kept_total", "dashboard answers stored")

# messages that were pushed, by word: hello | batch | sealed | alive | log | bye
PUSHES = Counter("ray_history_pushes_total", "messages pushed", ["word"])

# messages that were not taken; what they told of is in the store all the same
PUSH_FAILURES = Counter("ray_history_push_failures_total", "messages not taken")

# bytes that were not pushed, or not kept to be pushed again, because the push buffer was full
PUSH_DROPPED = Counter("ray_history_push_dropped_bytes_total", "bytes dropped from the push buffer")

# times the server asked for a segment to be closed
PUSH_SEALS = Counter("ray_history_push_seals_total", "segments closed because the server asked")
