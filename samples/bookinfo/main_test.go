package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// start runs the service of config, named like a pod of a Deployment, until the test ends, and returns its URL.
func start(t *testing.T, config Config) string {
	t.Helper()
	if config.Version == "" {
		config.Version = "v1"
	}
	if config.Timeout == 0 {
		config.Timeout = 10 * time.Second
	}
	config.Pod = config.Role + "-" + config.Version + "-abc"
	server := httptest.NewServer(handler(config))
	t.Cleanup(server.Close)
	return server.URL
}

// answer runs a service that always answers with status and body, as a proxy does that stands in for it.
func answer(t *testing.T, status int, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// The commands of the documentation show these answers.
func TestAnswers(t *testing.T) {
	stars := start(t, Config{Role: "ratings"})
	text := func(version, first, second, rest string) string {
		return `{"id":"0","podname":"reviews-` + version + `-abc","version":"` + version + `","reviews":[` +
			`{"reviewer":"Reviewer1","text":"An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"` + first + `},` +
			`{"reviewer":"Reviewer2","text":"Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."` + second + `}]` + rest + `}`
	}
	answered := `,"ratings":{"status":200,"podname":"ratings-v1-abc","version":"v1"}`
	unavailable := `,"rating":{"error":"Ratings service is currently unavailable"}`
	for _, test := range []struct {
		config Config
		path   string
		status int
		want   string
	}{
		{Config{Role: "details"}, "/details/0", 200, `{"id":0,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}`},
		{Config{Role: "details"}, "/details/x", 400, `{"error":"please provide numeric product ID"}`},
		{Config{Role: "details"}, "/health", 200, `{"status":"Details is healthy"}`},
		{Config{Role: "ratings"}, "/ratings/0", 200, `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`},
		{Config{Role: "ratings"}, "/ratings/7", 200, `{"id":7,"ratings":{"Reviewer1":5,"Reviewer2":4}}`},
		{Config{Role: "ratings"}, "/health", 200, `{"status":"Ratings is healthy"}`},
		{Config{Role: "reviews", Version: "v1", Ratings: stars}, "/reviews/0", 200, text("v1", "", "", "")},
		{Config{Role: "reviews", Version: "v2", Ratings: stars}, "/reviews/0", 200, text("v2",
			`,"rating":{"stars":5,"color":"black"}`, `,"rating":{"stars":4,"color":"black"}`, answered)},
		{Config{Role: "reviews", Version: "v3", Ratings: stars}, "/reviews/0", 200, text("v3",
			`,"rating":{"stars":5,"color":"red"}`, `,"rating":{"stars":4,"color":"red"}`, answered)},
		{Config{Role: "reviews", Version: "v3", Ratings: answer(t, 404, "")}, "/reviews/0", 200, text("v3",
			unavailable, unavailable, `,"ratings":{"status":404,"blocked":true,"error":"404 Not Found"}`)},
		{Config{Role: "reviews"}, "/health", 200, `{"status":"Reviews is healthy"}`},
		{Config{Role: "productpage"}, "/health", 200, `{"status":"Productpage is healthy"}`},
		{Config{Role: "productpage", Ratings: stars}, "/api/v1/products/0/ratings", 200, `{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}`},
		{
			Config{Role: "productpage", Ratings: answer(t, 505, "fault filter abort")},
			"/api/v1/products/0/ratings", 505,
			`{"error":"ratings: 505 HTTP Version Not Supported fault filter abort"}`,
		},
		{
			Config{Role: "productpage", Ratings: answer(t, 200, "no JSON")},
			"/api/v1/products/0/ratings", 502,
			`{"error":"ratings: invalid character 'o' in literal null (expecting 'u')"}`,
		},
	} {
		t.Run(test.config.Role+test.config.Version+test.path, func(t *testing.T) {
			response, body := get(t, start(t, test.config)+test.path)
			if response.StatusCode != test.status || strings.TrimSpace(body) != test.want {
				t.Errorf("got  %d %s\nwant %d %s", response.StatusCode, body, test.status, test.want)
			}
		})
	}
}

// Users count answers by pod and version to see what weights do.
func TestEveryAnswerNamesPodAndVersion(t *testing.T) {
	url := start(t, Config{Role: "reviews", Version: "v2", Ratings: answer(t, 404, "")})
	for _, path := range []string{"/reviews/0", "/health", "/nothing/here"} {
		response, _ := get(t, url+path)
		if pod, version := response.Header.Get("X-Bookinfo-Pod"), response.Header.Get("X-Bookinfo-Version"); pod != "reviews-v2-abc" || version != "v2" {
			t.Errorf("%s names pod %q and version %q", path, pod, version)
		}
	}
}

// A trace ends where its headers are not handed on, and a hash by cookie or user with it.
func TestTraceAndUserReachTheLastService(t *testing.T) {
	var seen http.Header
	last := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		writeJSON(w, http.StatusOK, bookRatings{})
	}))
	t.Cleanup(last.Close)
	page := start(t, Config{
		Role:    "productpage",
		Details: start(t, Config{Role: "details"}),
		Reviews: start(t, Config{Role: "reviews", Version: "v3", Ratings: last.URL}),
	})
	request, err := http.NewRequest(http.MethodGet, page+"/productpage", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"x-request-id": "11", "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "vendor=1", "baggage": "a=b",
		"b3": "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1", "x-b3-traceid": "80f198ee56343ba864fe8b2a57d3eff7",
		"x-b3-spanid": "e457b5a2e4d86bd1", "x-b3-parentspanid": "05e3ac9a4f6e3b90", "x-b3-sampled": "1", "x-b3-flags": "0",
		"x-ot-span-context": "12", "x-cloud-trace-context": "13", "grpc-trace-bin": "14", "sw8": "15",
		"x-datadog-trace-id": "16", "x-datadog-parent-id": "17", "x-datadog-sampling-priority": "18",
		"end-user": "jason", "cookie": "user=jason", "user-agent": "curl/8",
	}
	for name, value := range want {
		request.Header.Set(name, value)
	}
	request.Header.Set("Authorization", "Bearer secret")
	request.Header.Set("X-Other", "1")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	for name, value := range want {
		if got := seen.Get(name); got != value {
			t.Errorf("header %s arrived as %q, want %q", name, got, value)
		}
	}
	if seen.Get("Authorization") != "" || seen.Get("X-Other") != "" {
		t.Errorf("a credential or an unrelated header was handed on: %v", seen)
	}
}

// A rolling update must not fail a request: one in flight ends, and one that still comes is answered.
func TestStopAnswersWhoStillAsks(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		writeJSON(w, http.StatusOK, bookRatings{})
	}))
	defer slow.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- serve(ctx, listener, Config{Role: "reviews", Version: "v2", Ratings: slow.URL, Timeout: 10 * time.Second, Drain: time.Second})
	}()
	inFlight := make(chan int, 1)
	go func() {
		response, err := http.Get(url + "/reviews/0")
		if err != nil {
			inFlight <- 0
			return
		}
		response.Body.Close()
		inFlight <- response.StatusCode
	}()
	<-arrived
	stop()
	if late, _ := get(t, url+"/health"); late.StatusCode != http.StatusOK {
		t.Errorf("a request after SIGTERM got %d", late.StatusCode)
	}
	close(release)
	if status := <-inFlight; status != http.StatusOK {
		t.Errorf("the request in flight got %d", status)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve returned %v", err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the stopped service still listens")
	}
}

func TestParse(t *testing.T) {
	for arguments, want := range map[string]string{
		"":                         `role "": want productpage, details, reviews or ratings`,
		"frontpage":                `role "frontpage": want productpage, details, reviews or ratings`,
		"reviews -version v4":      `-version "v4": reviews has v1, v2 and v3`,
		"reviews -version v2 more": `argument "more" is not understood`,
		"details -timeout 3":       `invalid value "3" for flag -timeout: parse error`,
	} {
		if _, err := parse(strings.Fields(arguments), io.Discard); err == nil || err.Error() != want {
			t.Errorf("%q: error is %v, want %s", arguments, err, want)
		}
	}
	config, err := parse([]string{"reviews", "-version", "v3", "-pod", "reviews-v3-abc"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if config.Role != "reviews" || config.Version != "v3" || config.Pod != "reviews-v3-abc" || config.Ratings != "http://ratings:9080" {
		t.Errorf("parsed %+v", config)
	}
}
