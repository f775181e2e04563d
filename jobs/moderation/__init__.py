"""`moderate`: for each policy the probability that a row's image or text violates it.

job            its options and how the task is built
task           what is asked about a row, and the columns that come of it
policies       what a policy is, and which ones come with the package
policy_files   policies of a user's own
calibration    how good probabilities are against labels, and which threshold fits
"""

from jobs.moderation.job import JOB

__all__ = ["JOB"]
