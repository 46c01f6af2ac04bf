//! YAML documents, read with located errors.
