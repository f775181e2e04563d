"""OUTPUT: what is written there, and when; README.md says what that promises.

What is asked, which units there are and which driver is the newest (`run_record`, `plan`,
`fencing`); finished rows, how they are committed and what a part is (`journal`, `commit`, `parts`);
what is there, and what is removed (`counts`, `status`, `cleanup`).
"""
