"""From a dataset as distributed to a tree of face crops with a manifest.

    layout   which videos there are, and what is known of them; read by one module a dataset:
             ffpp (with ffpp_layout, ffpp_splits), dfd, celebdf, dfdc, dfdcp, uadfv, csv_list,
             deepfakebench (with deepfakebench_index)
    driver   from a layout to the finished tree, the same for all
    clips    the work: one video in, one folder out                  (values)
    video    decode in sequence · images  files instead · detectors  find faces (yunet, mtcnn, dlib_hog)
    tracks   whom the video is of · masks  who is forged in it · crop, align  cut out
    faces    one clip from start to end · link  one clip of crops that are there already
    pool     many clips, in processes
    journal  what is finished, so that a killed run resumes
    report   what was expected, found, made and dropped, and why · report_page  the same to look at

Nothing here imports torch but the detector that needs it; PyAV and OpenCV are imported only when faces are cut out.
"""
