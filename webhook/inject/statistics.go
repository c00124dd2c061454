package inject

import "strings"

// Kinds of statistics that users and dashboards query. Envoy makes several hundred per service; everything not named here
// is never created.
var (
	clusterStatistics = []string{
		"membership_(total|healthy)",
		"upstream_cx_(total|active|connect_fail|connect_timeout|overflow|rx_bytes_total|tx_bytes_total)",
		"upstream_rq_(total|active|completed|timeout|time|retry|retry_success|retry_overflow|pending_overflow|active_overflow|[1-5]xx)",
	}
	httpStatistics = []string{
		"downstream_rq_(total|completed|[1-5]xx)",
		`fault\.(aborts_injected|delays_injected|response_rl_injected)`,
	}
	tcpStatistics = []string{"downstream_cx_(total|no_route|rx_bytes_total|tx_bytes_total)"}
)

// latencyBuckets are the upper bounds of histograms, in milliseconds.
var latencyBuckets = list{1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000}

// statistics keeps those of HTTP that are named, and what users query of clusters and connections. more are further patterns.
func statistics(http []string, more ...any) object {
	return object{
		"stats_matcher": object{"inclusion_list": object{"patterns": append(list{
			object{"prefix": "cluster_manager."},
			object{"prefix": "control_plane."},
			object{"prefix": "listener_manager."},
			object{"prefix": "server."},
			// A name with .outbound is a service's; the others are of the sidecar's own clusters.
			kinds(`cluster\.(.*\.outbound|[^.]+)`, clusterStatistics),
			kinds(`http\..*`, http),
			kinds(`tcp\..*`, tcpStatistics),
		}, more...)}},
		"histogram_bucket_settings": list{object{"match": object{"suffix": "upstream_rq_time"}, "buckets": latencyBuckets}},
	}
}

// kinds matches statistics of these kinds in each scope.
func kinds(scope string, kinds []string) object {
	return object{"safe_regex": object{"regex": scope + `\.(` + strings.Join(kinds, "|") + ")"}}
}
