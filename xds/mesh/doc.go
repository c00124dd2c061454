// Package mesh folds Kubernetes objects and their labels into a model of open ports, one key at a time.
package mesh
