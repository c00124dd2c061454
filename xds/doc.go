package xds
