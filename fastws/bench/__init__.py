"""
`python -m fastws bench URL`: a load generator for WebSocket servers.

In: a URL and what is wanted of the load. Out: a table, a JSON document, a page, an exit status.

The clients themselves are in C, `fastws._load`, and share no line with the server. Here, along the data:

    command     options
    target      the URL: an address to connect to, and whether one may
    plan        what each process is asked for
    worker      one process: one `Load`, from the first connection to the last
    conducting  the processes together: phases, samples
    observing   a process from outside: its processor time and memory
    figures     samples into histograms and time series
    judging     what the figures are worth, and what fails
    report      all of it as one JSON document
    rows        the document as rows of text
    screen      progress, and the rows, on a terminal
    page        the rows, and charts, as HTML
"""
