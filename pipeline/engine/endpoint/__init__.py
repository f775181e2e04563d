"""A server that somebody runs already, behind the interface of an engine: OpenAI's HTTP API.

served         what the server says of the model; what it is asked before a run
renderer       a request as the body of an HTTP request; no tokenizer is needed
images         an image as a data URL, as the row has it where the server takes that
client         one HTTP request, and the key that goes with it
replies        what a status means, and what the server says that is wrong
completions    from the server's answer to a `Generation`
concurrency    how many requests the server has at once, which is found out
availability   waiting for a server that is away or busy; when that ends the run
engine         all of it as an `InferenceEngine`

    the server                                            what happens
    answers 429 or 503                                    fewer requests at once; sent again after
                                                          `Retry-After`, or a pause that doubles
    refuses connections, is a gateway without a server    the rows wait until a small request is
                                                          answered, then are sent again
    answers 500, 502, 504, resets, runs out of time       sent again once a small request is
                                                          answered; the fifth time `engine_error`
    has answered nothing for `stall_seconds`              the run ends (exit 1) and can be continued
    answers 400, 422 or any other 4xx                     the row's `engine_error`, with its message
    says that the prompt is too long (400, 413)           `too_long`
    filtered the prompt or the answer                     `refused`
    answers 401, 402, 404 of the model, or redirects      the run ends (exit 2), with what to mend
    has nothing at the address when a run is checked      the run does not begin (exit 2)
    answers 403                                           the same; `refused` once it has answered
    gives no log-probabilities where they are needed      the run ends (exit 2)
    comes back with another model under the name          the run ends (exit 2)

What a run ends for is no outcome of a row: what is finished is kept, all else is done when the same
command is given again.
"""
