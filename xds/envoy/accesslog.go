package envoy

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// An AccessLog says which requests and connections proxies log.
type AccessLog string

// The values of AccessLog.
const (
	LogAll AccessLog = "all"
	// LogErrors is for answers of 500 and more, gRPC statuses that are not OK, and whatever Envoy itself noticed.
	LogErrors AccessLog = "errors"
	LogOff    AccessLog = "off"
)

// Set parses the value of a flag.
func (a *AccessLog) Set(text string) error {
	switch value := AccessLog(text); value {
	case LogAll, LogErrors, LogOff:
		*a = value
		return nil
	}
	return fmt.Errorf("access log %q is not %s, %s or %s", text, LogAll, LogErrors, LogOff)
}

func (a *AccessLog) String() string { return string(*a) }

// The columns are the same for requests and connections: time, method, path, protocol, status, duration in ms, bytes
// sent to the client, Envoy's response flags, endpoint, cluster. A connection's path is the address that was dialled.
const (
	httpFormat = "[%START_TIME%] %REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% " + commonFormat
	tcpFormat  = "[%START_TIME%] - %DOWNSTREAM_LOCAL_ADDRESS% TCP - " + commonFormat

	commonFormat = "%DURATION% %BYTES_SENT% %RESPONSE_FLAGS% %UPSTREAM_HOST% %UPSTREAM_CLUSTER%\n"
)

// A LogFormat is how the gateway writes a request.
type LogFormat string

// The values of LogFormat.
const (
	// LogText is the columns of every proxy.
	LogText LogFormat = "text"
	// LogJSON is an object with what those columns say, and who asked for which host with what.
	LogJSON LogFormat = "json"
)

// Set parses the value of a flag.
func (f *LogFormat) Set(text string) error {
	switch value := LogFormat(text); value {
	case LogText, LogJSON:
		*f = value
		return nil
	}
	return fmt.Errorf("format of the access log %q is not %s or %s", text, LogText, LogJSON)
}

func (f *LogFormat) String() string { return string(*f) }

func (f LogFormat) format() (*corev3.SubstitutionFormatString, error) {
	if f != LogJSON {
		return textFormat(httpFormat), nil
	}
	fields, err := structpb.NewStruct(map[string]any{
		"time": "%START_TIME%", "method": "%REQ(:METHOD)%", "host": "%REQ(:AUTHORITY)%", "path": "%REQ(:PATH)%",
		"protocol": "%PROTOCOL%", "status": "%RESPONSE_CODE%", "duration_ms": "%DURATION%",
		"bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%", "flags": "%RESPONSE_FLAGS%",
		"endpoint": "%UPSTREAM_HOST%", "cluster": "%UPSTREAM_CLUSTER%", "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
		"user_agent": "%REQ(USER-AGENT)%", "tls": "%DOWNSTREAM_TLS_VERSION%",
	})
	if err != nil {
		return nil, err
	}
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields}}, nil
}

func textFormat(format string) *corev3.SubstitutionFormatString {
	return &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
		TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: format}},
	}}
}

// log returns the access log with one line of that format, which keeps what the filter matches when only errors are
// wanted.
func (a AccessLog) log(format *corev3.SubstitutionFormatString, errors *accesslogv3.AccessLogFilter) ([]*accesslogv3.AccessLog, error) {
	if a == LogOff {
		return nil, nil
	}
	config, err := pack(&streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{
		LogFormat: format,
	}})
	if err != nil {
		return nil, err
	}
	l := &accesslogv3.AccessLog{
		Name:       "envoy.access_loggers.stdout",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: config},
	}
	if a == LogErrors {
		l.Filter = errors
	}
	return []*accesslogv3.AccessLog{l}, nil
}

// anyFlag matches what Envoy has a response flag for: no endpoint, connection refused, timeout and so on.
func anyFlag() *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{},
	}}
}

func httpErrors() *accesslogv3.AccessLogFilter {
	status := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op:    accesslogv3.ComparisonFilter_GE,
			Value: &corev3.RuntimeUInt32{DefaultValue: 500, RuntimeKey: "traffic.access_log.status"},
		}},
	}}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{
		OrFilter: &accesslogv3.OrFilter{Filters: []*accesslogv3.AccessLogFilter{anyFlag(), status, grpcErrors()}},
	}}
}

// grpcErrors matches gRPC requests that failed: their HTTP status is 200.
func grpcErrors() *accesslogv3.AccessLogFilter {
	grpc := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{
		HeaderFilter: &accesslogv3.HeaderFilter{Header: &routev3.HeaderMatcher{
			Name: "content-type",
			HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"},
			}},
		}},
	}}
	failed := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_GrpcStatusFilter{
		GrpcStatusFilter: &accesslogv3.GrpcStatusFilter{
			Statuses: []accesslogv3.GrpcStatusFilter_Status{accesslogv3.GrpcStatusFilter_OK}, Exclude: true,
		},
	}}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
		AndFilter: &accesslogv3.AndFilter{Filters: []*accesslogv3.AccessLogFilter{grpc, failed}},
	}}
}
