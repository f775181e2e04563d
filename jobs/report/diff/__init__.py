"""What differs between two OUTPUTs: settings, rows, outcomes, answers.

compare   `compare_outputs`: from two OUTPUTs to a `Difference`
pairs     which rows of the two belong together, a bounded number at a time
changes   what differs between rows that belong together
words     which words of two texts differ
page      the differences as a page
"""
