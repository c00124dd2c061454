package envoy

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// otherHostAttempts is how often a retry picks anew when it got an endpoint that was tried before. The last pick counts,
// so that a retry works where there is one endpoint. Beside endpoints of weight 128 one of weight 1 is every 129th pick, or
// has 8 of 1024 places on a ring: so many picks find it, and cost a fraction of a millisecond where it is not there.
const otherHostAttempts = 8 * label.MaxWeight

// retries returns nil when no label asks for them: Envoy's default is none.
func retries(r label.Retries) (*routev3.RetryPolicy, error) {
	var (
		on   []string
		most uint32
	)
	for _, cause := range []struct {
		name  string
		times uint32
	}{{"5xx", r.ServerError}, {"connect-failure", r.ConnectFailure}, {"gateway-error", r.GatewayError}} {
		if cause.times > 0 {
			on = append(on, cause.name)
			most = max(most, cause.times)
		}
	}
	if most == 0 {
		return nil, nil
	}
	elsewhere, err := pack(&previoushostsv3.PreviousHostsPredicate{})
	if err != nil {
		return nil, err
	}
	return &routev3.RetryPolicy{
		RetryOn:    strings.Join(on, ","),
		NumRetries: wrapperspb.UInt32(most),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: elsewhere},
		}},
		HostSelectionRetryMaxAttempts: otherHostAttempts,
	}, nil
}

// circuitBreakers returns nil where no label sets a limit: Envoy's defaults are the vocabulary's.
func circuitBreakers(l label.Limits) *clusterv3.CircuitBreakers {
	if l == (label.Limits{}) {
		return nil
	}
	limit := func(n uint32) *wrapperspb.UInt32Value {
		if n == 0 {
			return nil
		}
		return wrapperspb.UInt32(n)
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxRetries:         limit(l.Retries),
		MaxConnections:     limit(l.Connections),
		MaxPendingRequests: limit(l.Pending),
		MaxRequests:        limit(l.Requests),
	}}}
}
