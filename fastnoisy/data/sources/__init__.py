"""One file per data set: where its images and labels come from."""
