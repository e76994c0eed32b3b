"""Make networks, object stores and Slack misbehave on purpose."""
