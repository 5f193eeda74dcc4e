"""What every HTTP client needs beside itself: proxies, certificates, responses that trickle or bring too much."""
