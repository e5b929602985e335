"""From a dataset as distributed to a tree of face crops with a manifest.

    layout   which videos there are, and what is known of them; read by one module a dataset:
             ffpp (with ffpp_layout, ffpp_splits), celebdf, dfdc, dfdcp, uadfv, csv_list
    driver   from a layout to the finished tree, the same for all
    clips    the work: one video in, one folder of crops out         (values)
    video    decode in sequence · detectors  find faces · crop  cut them out
    faces    one clip from start to end
    pool     many clips, in processes
    journal  what is finished, so that a killed run resumes
    report   what was expected, found, made and dropped, and why

Nothing here imports torch; PyAV and OpenCV are imported only when frames are decoded.
"""
