"""From a dataset as distributed to a tree of face crops with a manifest.

    layout    a dataset's videos and what is known of them; one reader for each dataset:
              ffpp (with ffpp_layout, ffpp_splits), dfd, celebdf, dfdc, dfdcp, uadfv, csv_list,
              deepfakebench (with deepfakebench_index)
    driver    from a layout to the finished tree; the same for all datasets
    options   what decides the crops · outcome  the result of one video
    pool      many videos, each prepared by one process
    faces     one video to its face crops · link  images that are crops already
    video     decode in sequence · images  videos that come as image files · sampling  which frames
    detectors find faces (yunet, mtcnn, dlib_hog) · tracks  whose video it is · masks  whose face is forged
    crop, align  cut out
    journal   what is finished, so that a killed run resumes
    folder    whose a dataset's folder is, one run at a time, and what of it may be removed
    report    what was expected, found, made and dropped, and why · report_page  the same as a page

Only the detector mtcnn imports torch. PyAV and OpenCV are imported only when faces are cut out.
"""
