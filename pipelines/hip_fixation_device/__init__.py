"""Internal fixation device of the hip: bundle, training and evaluation."""
