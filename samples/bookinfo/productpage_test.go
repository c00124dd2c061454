package main

import (
	"html"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	return server.URL
}

// silent is a service that never answers.
func silent(t *testing.T) string {
	t.Helper()
	end := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-end }))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(end) })
	return server.URL
}

// The page is how a user sees the effect of a label: it names what answered, and what to type when something did not.
func TestPage(t *testing.T) {
	details := start(t, Config{Role: "details"})
	ratings := start(t, Config{Role: "ratings"})
	reviews := func(version, ratings string) string {
		return start(t, Config{Role: "reviews", Version: version, Ratings: ratings})
	}
	for name, test := range map[string]struct {
		details, reviews string
		want, not        []string
	}{
		"all well, v1": {
			details, reviews("v1", ratings),
			[]string{"<h1>The Comedy of Errors</h1>", "William Shakespeare · 1595", "reviews-v1-abc", "details-v1-abc", "productpage-v1-abc", "slapstick humour", "This version shows no stars", "not asked"},
			[]string{"★", `class="problem"`},
		},
		"all well, v2": {
			details, reviews("v2", ratings),
			[]string{"reviews-v2-abc", "ratings-v1-abc", `class="stars black"`, "★★★★★", "★★★★☆", `aria-label="4 of 5 stars"`},
			[]string{"stars red", `class="problem"`},
		},
		"all well, v3": {
			details, reviews("v3", ratings),
			[]string{"reviews-v3-abc", `class="stars red"`, "★★★★☆"},
			[]string{"stars black", `class="problem"`},
		},
		"details closed": {
			answer(t, 404, ""), reviews("v1", ratings),
			[]string{"details is closed", "The Envoy beside productpage refused the call", "kubectl -n demo label service details traffic.port.9080=http", "slapstick humour"},
			[]string{"William Shakespeare"},
		},
		"reviews closed": {
			details, answer(t, 404, ""),
			[]string{"reviews is closed", "kubectl -n demo label service reviews traffic.port.9080=http", "William Shakespeare"},
			[]string{"slapstick humour"},
		},
		"ratings closed": {
			details, reviews("v2", answer(t, 404, "")),
			[]string{"ratings is closed", "The Envoy beside reviews refused the call", "kubectl -n demo label service ratings traffic.port.9080=http", "slapstick humour", "Ratings service is currently unavailable"},
			[]string{"★"},
		},
		"a 404 of the service itself": {
			start(t, Config{Role: "ratings"}), reviews("v1", ratings),
			[]string{"details fails", "kubectl -n demo logs -l app=details"},
			[]string{"details is closed"},
		},
		"fault": {
			details, answer(t, 505, "fault filter abort"),
			[]string{"reviews fails on purpose", "kubectl -n demo label service reviews traffic.fault.abort.percentage-", "505 HTTP Version Not Supported fault filter abort"},
			nil,
		},
		"no endpoint": {
			details, answer(t, 503, "no healthy upstream"),
			[]string{"reviews has nobody to answer", "no healthy upstream", "kubectl -n demo get pods -l app=reviews -L traffic.endpoint.weight"},
			nil,
		},
		"connection refused": {
			closed(t), reviews("v1", ratings),
			[]string{"details does not answer", "connection refused", "kubectl -n demo get pods -l app=details"},
			nil,
		},
		"too slow": {
			details, silent(t),
			[]string{"reviews does not answer", "no answer in time"},
			nil,
		},
		"not JSON": {
			details, answer(t, 200, "hello"),
			[]string{"reviews fails", "invalid character"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			url := start(t, Config{Role: "productpage", Namespace: "demo", Details: test.details, Reviews: test.reviews, Timeout: 500 * time.Millisecond})
			response, body := get(t, url+"/productpage")
			if response.StatusCode != http.StatusOK {
				t.Fatalf("the page answered %d", response.StatusCode)
			}
			text := html.UnescapeString(body)
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("the page lacks %q", want)
				}
			}
			for _, not := range test.not {
				if strings.Contains(text, not) {
					t.Errorf("the page has %q", not)
				}
			}
		})
	}
}

// What a service says must not run in the reader's browser.
func TestPageEscapesWhatServicesSay(t *testing.T) {
	const script = `<script>alert(1)</script>`
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(versionHeader, script)
		w.Header().Set(podHeader, script)
		writeJSON(w, http.StatusOK, bookReviews{Reviews: []review{
			{Reviewer: script, Text: script, Rating: &rating{Stars: 1 << 30, Color: `" onload="alert(1)`}},
			{Reviewer: script, Text: script, Rating: &rating{Stars: -1, Error: script}},
		}, Ratings: &call{Status: 500, Pod: script, Error: script}})
	}))
	t.Cleanup(hostile.Close)
	url := start(t, Config{Role: "productpage", Details: answer(t, 500, script), Reviews: hostile.URL})
	_, body := get(t, url+"/productpage")
	if strings.Contains(body, "<script") || strings.Contains(body, ` onload="alert`) {
		t.Errorf("the page holds live script:\n%s", body)
	}
	if count := strings.Count(body, "&lt;script&gt;"); count < 8 {
		t.Errorf("the page shows the hostile text %d times, so this test looks at too little", count)
	}
}

func TestRootLeadsToThePage(t *testing.T) {
	url := start(t, Config{Role: "productpage", Details: answer(t, 404, ""), Reviews: answer(t, 404, "")})
	response, _ := get(t, url+"/")
	if path := response.Request.URL.Path; path != "/productpage" {
		t.Errorf("/ leads to %s", path)
	}
}
