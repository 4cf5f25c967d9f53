//! The seam between layers and hardware: tensors live where the backend keeps them.
