package envoy

import (
	"cmp"

	faultv3common "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

const faultFilter = "envoy.filters.http.fault"

// faults is what a route does to its requests and responses on purpose, as the configuration of the fault filter that
// every listener has; nil without any.
func faults(s label.Settings) (map[string]*anypb.Any, error) {
	fault := &faultv3.HTTPFault{DisableDownstreamClusterStats: true}
	if f := s.Fault; f.Delay > 0 && f.DelayPercentage > 0 {
		fault.Delay = &faultv3common.FaultDelay{
			FaultDelaySecifier: &faultv3common.FaultDelay_FixedDelay{FixedDelay: durationpb.New(f.Delay)},
			Percentage:         fraction(f.DelayPercentage),
		}
	}
	if f := s.Fault; f.AbortPercentage > 0 {
		fault.Abort = &faultv3.FaultAbort{
			ErrorType:  &faultv3.FaultAbort_HttpStatus{HttpStatus: cmp.Or(f.AbortStatus, label.DefaultAbortStatus)},
			Percentage: fraction(f.AbortPercentage),
		}
	}
	if s.RateLimit > 0 {
		fault.ResponseRateLimit = &faultv3common.FaultRateLimit{
			// The field is called kbps, and counts KiB per second.
			LimitType: &faultv3common.FaultRateLimit_FixedLimit_{
				FixedLimit: &faultv3common.FaultRateLimit_FixedLimit{LimitKbps: uint64(s.RateLimit)},
			},
			Percentage: fraction(label.Hundred),
		}
	}
	if fault.Delay == nil && fault.Abort == nil && fault.ResponseRateLimit == nil {
		return nil, nil
	}
	config, err := pack(fault)
	if err != nil {
		return nil, err
	}
	return map[string]*anypb.Any{faultFilter: config}, nil
}

func fraction(p label.Percentage) *typev3.FractionalPercent {
	return &typev3.FractionalPercent{Numerator: uint32(p), Denominator: typev3.FractionalPercent_MILLION}
}
