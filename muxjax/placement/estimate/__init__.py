"""What a unit serves: throughput and latencies of LLMs that share devices."""
