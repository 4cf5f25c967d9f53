//go:build tools

// Package tools pins Helm's own program.
package tools

import _ "helm.sh/helm/v4/cmd/helm"
