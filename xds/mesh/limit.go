package mesh

import (
	"fmt"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// maxAddresses is how many addresses one Service or Pod can have open, all its ports together, and so how many ports. Each
// costs every injected pod a listener, some 25 kB of its Envoy's memory whether it is ever used or not: a thousand are 25 MB,
// a fifth of what the chart requests for a sidecar. What is beyond stays blocked, of a headless Service by its name too:
// that resolves to the very addresses that are closed, and the client cannot be led elsewhere without a listener there.
const maxAddresses = 1000

// portClaims are the claims of one port, the most important first, each address once.
type portClaims struct {
	number uint16
	claims []claim
}

// share returns as many claims as the limit is. The ports take turns, so that one with many addresses leaves the
// others theirs. It names the first port that does not get all of its own, or 0.
func share(ports []portClaims, limit int) (list []claim, cut uint16) {
	if len(ports) > limit {
		ports, cut = ports[:limit], ports[limit].number
	}
	left := ports
	for turn := 0; len(left) > 0; turn++ {
		var next []portClaims
		for _, port := range left {
			switch {
			case turn >= len(port.claims): // it has all of them
			case len(list) == limit:
				return list, port.number
			default:
				list, next = append(list, port.claims[turn]), append(next, port)
			}
		}
		left = next
	}
	return list, cut
}

// within returns the ports, sorted, that can be open: there is no more than one address for each.
func within[T any](ports []T, limit int) []T { return ports[:min(len(ports), limit)] }

// beyond tells that an owner has more addresses than can be open. It gives no numbers, which would make it another problem
// with each pod that comes or goes.
func (m *Mesh) beyond(o Object, l labelled) []label.Problem {
	port, cut := m.cut[o]
	if !cut {
		return nil
	}
	reason := fmt.Sprintf("with it there are more than the %d addresses that a Service or Pod can have open, all its ports together: "+
		"open fewer ports, split a headless Service, or give it a cluster IP", m.limit)
	return []label.Problem{l.problem(port, reason, "the addresses beyond are blocked")}
}
