package main

import (
	"fmt"
	"net/http"
	"strings"
)

// problem is a box on the page: what failed, why, and the command that changes it.
type problem struct {
	Title   string
	Text    string
	Answer  string // what came back, verbatim
	Command string
}

// problems says what went wrong with the calls of a page, by service.
func problems(shown page) map[string]*problem {
	all := map[string]*problem{}
	for _, failed := range []struct {
		caller string
		call   call
	}{
		{"productpage", shown.Calls.Details},
		{"productpage", shown.Calls.Reviews},
		{"reviews", shown.Calls.Ratings},
	} {
		if failed.call.Error != "" {
			all[failed.call.Service] = diagnose(failed.caller, failed.call, shown.Namespace)
		}
	}
	return all
}

// diagnose tells a port that no label opens from a fault that a label injects and from a service that is not well.
func diagnose(caller string, failed call, namespace string) *problem {
	service := failed.Service
	found := &problem{Answer: failed.Error}
	command := func(text string) string {
		if namespace != "" {
			text = strings.Replace(text, "kubectl ", "kubectl -n "+namespace+" ", 1)
		}
		return text
	}
	switch {
	case failed.Blocked:
		found.Title = service + " is closed"
		found.Text = fmt.Sprintf("The Envoy beside %s refused the call: no label opens port 9080 of the service %s. This opens it:", caller, service)
		found.Command = command("kubectl label service " + service + " traffic.port.9080=http")
	case strings.Contains(failed.Error, "fault filter abort"):
		found.Title = service + " fails on purpose"
		found.Text = fmt.Sprintf("A fault label on the service %s makes Envoy answer in its place. This takes it away:", service)
		found.Command = command("kubectl label service " + service + " traffic.fault.abort.percentage-")
	case failed.Status == 0:
		found.Title = service + " does not answer"
		found.Text = fmt.Sprintf("%s could not reach %s. See whether its pods run:", caller, service)
		found.Command = command("kubectl get pods -l app=" + service)
	case failed.Status == http.StatusServiceUnavailable && failed.Pod == "":
		found.Title = service + " has nobody to answer"
		found.Text = fmt.Sprintf("Envoy found no pod of %s that is ready and has a weight above 0. See which there are:", service)
		found.Command = command("kubectl get pods -l app=" + service + " -L traffic.endpoint.weight")
	default:
		found.Title = service + " fails"
		found.Text = fmt.Sprintf("%s got an error from %s. Its log says more:", caller, service)
		found.Command = command("kubectl logs -l app=" + service + " -c " + service)
	}
	return found
}
