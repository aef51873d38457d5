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

# segments read from the store
SEGMENTS_READ = Counter("ray_history_segments_read_total", "segments read")

# objects that are not what their place says they are
SEGMENTS_BAD = Counter("ray_history_segments_bad_total", "objects that could not be read as segments")

# requests answered 503 because the store could not be read
STORE_DOWN_ANSWERS = Counter("ray_history_store_down_answers_total", "requests refused because the store is away")
