"""Work on a cluster: jobs that are submitted, the service that runs studies for others, and results pulled home."""
