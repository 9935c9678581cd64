"""Training sets: made of a clinic's archive of images and contours, kept in the raw format of nnU-Net v2."""
