//! featurize.
