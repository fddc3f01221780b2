"""`moored select`: scores a data set and writes the rows that a rule keeps."""
