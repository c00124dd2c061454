package xds

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A span is what both kinds of collector are told of a request.
type span struct {
	TraceID  string `json:"traceId"`
	ID       string
	ParentID string `json:"parentId"`
	Kind     string
	Name     string
	Service  string
	Tags     map[string]string
}

// A collector keeps the spans that it gets.
type collector struct {
	address string
	mu      sync.Mutex
	spans   []span
}

func (c *collector) keep(spans ...span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spans = append(c.spans, spans...)
}

func (c *collector) all() []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// wait returns the span of a trace once it is here.
func (c *collector) wait(t *testing.T, traceID string) (found span) {
	t.Helper()
	eventually(t, "the span of trace "+traceID, func() error {
		all := c.all()
		i := slices.IndexFunc(all, func(s span) bool { return s.TraceID == traceID })
		if i < 0 {
			return fmt.Errorf("not among %d", len(all))
		}
		found = all[i]
		return nil
	})
	return found
}

// zipkin takes JSON as Zipkin's API v2 does.
func (w *world) zipkin(t *testing.T) *collector {
	t.Helper()
	l := listen(t, w.outside, outsideAddress+":0")
	c := &collector{address: l.Addr().String()}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v2/spans", func(rw http.ResponseWriter, r *http.Request) {
		var spans []struct {
			span
			LocalEndpoint struct {
				ServiceName string `json:"serviceName"`
			} `json:"localEndpoint"`
		}
		if err := json.NewDecoder(r.Body).Decode(&spans); err != nil || r.Host != c.address {
			t.Errorf("Zipkin at %s got a request to %s: %v", c.address, r.Host, err)
		}
		for _, s := range spans {
			s.Service = s.LocalEndpoint.ServiceName
			c.keep(s.span)
		}
		rw.WriteHeader(http.StatusAccepted)
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: patience}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return c
}

// otlp takes calls of opentelemetry.proto.collector.trace.v1.TraceService/Export. A request has the fields of TracesData.
func (w *world) otlp(t *testing.T) *collector {
	t.Helper()
	l := listen(t, w.outside, outsideAddress+":0")
	c := &collector{address: l.Addr().String()}
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		if method != "/opentelemetry.proto.collector.trace.v1.TraceService/Export" {
			t.Errorf("the collector was called with %s", method)
		}
		var data tracev1.TracesData
		if err := stream.RecvMsg(&data); err != nil {
			return err
		}
		c.keep(spansOf(&data)...)
		return stream.SendMsg(&emptypb.Empty{})
	}))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return c
}

func spansOf(data *tracev1.TracesData) (spans []span) {
	for _, resource := range data.GetResourceSpans() {
		attributes := map[string]string{}
		for _, a := range resource.GetResource().GetAttributes() {
			attributes[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				tags := map[string]string{}
				for _, a := range s.GetAttributes() {
					tags[a.GetKey()] = a.GetValue().GetStringValue()
				}
				spans = append(spans, span{
					TraceID: fmt.Sprintf("%x", s.GetTraceId()), ID: fmt.Sprintf("%x", s.GetSpanId()),
					ParentID: fmt.Sprintf("%x", s.GetParentSpanId()), Name: s.GetName(), Tags: tags,
					Kind:    strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_"),
					Service: attributes["service.name"] + "." + attributes["service.namespace"],
				})
			}
		}
	}
	return spans
}
