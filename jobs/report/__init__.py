"""What a run gave, as a page that opens in any browser, and what differs between two runs.

    write         `write_report`: from an OUTPUT to a file
    sampling      which rows are shown, where OUTPUT has more than fit
    rows          reads these rows, within a bound of memory
    columns       what each column is: a source, an answer, a score, a remark
    thumbnails    the rows' images, small, within a bound of bytes
    histograms    lengths, tokens and scores as bars
    reasons       failures grouped by what their errors say
    plan_file     what `plan` foresaw, beside what happened
    pictures_of_profile   where the time went, as curves
    payload       the rows as JSON in the page
    page          the templates, and what keeps data from being executed
    diff          what differs between two OUTPUTs: `write_diff` and the tables in between

The pages load nothing: styles, scripts, data and images are in the file, and its content security
policy forbids the rest. Nothing of the data is read as markup: templates escape it, and the script
sets it as text.
"""
