// Package chart tests the Helm chart: what it renders, which values it takes, that its arguments are the programs' own.
package chart
