"""An OUTPUT as a dataset repository on the Hugging Face Hub.

target      which repository is meant, and what its refusals mean
push        which parts are missing there, and how they get there
card        the dataset card, made from the run's record
"""
