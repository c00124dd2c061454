module github.com/kubernetes-traffic-manager/traffic/tests

go 1.26.0

require github.com/kubernetes-traffic-manager/traffic v0.0.0

replace github.com/kubernetes-traffic-manager/traffic => ../
