"""What can be wrong with an answer in text, and around it, whatever the job.

check        the outcome that follows
repetition   it runs into a loop
refusal      it declines, or asks for what it was given
clean        what is around it is cut, when asked
"""
