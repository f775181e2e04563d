"""`moderate`: for each policy the probability that a row's image or text violates it.

job            the options, and how the task is built from them
task           from a row to requests, and from the answers to the result columns
policies       what a policy is, the built-in policies, and the prompts about them
policy_files   reads a user's own policies from a file
calibration    compares probabilities with labels, and finds a threshold
"""

from jobs.moderation.job import JOB

__all__ = ["JOB"]
