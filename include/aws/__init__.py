"""What an operator gives AWS: policies of buckets, key and roles, and how long logs and hidden versions are kept."""
