"""The latencies that a run reports: the names that --percentile-metrics knows, with their labels and titles."""

METRICS = {
    "ttft": ("TTFT", "Time to First Token"),
    "tpot": ("TPOT", "Time per Output Token (excl. 1st token)"),
    "itl": ("ITL", "Inter-token Latency"),
    "icl": ("ICL", "Inter-chunk Latency"),
    "e2el": ("E2EL", "End-to-end Latency"),
    "server_queue": ("Server Queue", "Queueing in the Server"),
    "client_queue_time": ("Client Queue Time", "Client-side Queueing"),
    "ttft_including_client_queue": ("TTFT incl. Client Queue", "Queue-inclusive Time to First Token"),
    "e2el_including_client_queue": ("E2EL incl. Client Queue", "Queue-inclusive End-to-end Latency"),
}
"""Name to label and title, in the order printed; vLLM's words where it has them. Definitions: `measure.py`."""
