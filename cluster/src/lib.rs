//! A real Kubernetes on one machine, without Docker: for tests, and for trying Boyle out.
