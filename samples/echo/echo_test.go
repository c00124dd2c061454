package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestEcho: the samples, and the tests that run them, rely on each of these.
func TestEcho(t *testing.T) {
	server := httptest.NewServer(newEcho(config{pod: "pod-0"}))
	defer server.Close()
	tests := []struct {
		path   string
		body   string
		status int
		says   string
	}{
		{"/hello", "12345", 200, "pod-0: POST /hello, 5 bytes\n"},
		{"/?status=418", "", 418, "pod-0"},
		{"/?id=a&fail=2", "", 503, "pod-0"},
		{"/?id=a&fail=2", "", 503, "pod-0"},
		{"/?id=a&fail=2", "", 200, "pod-0"},
		{"/?id=a&fail=2&status=500", "", 500, "pod-0"},
		{"/count?id=a", "", 200, "4\n"},
		{"/count?id=b", "", 200, "0\n"},
		{"/?bytes=3", "", 200, "\x00\x00\x00"},
		{"/headers", "", 200, "POST /headers HTTP/1.1\nHost: 127.0.0.1:"},
		{"/headers", "", 200, "X-Test: yes\n"},
		{"/?status=99", "", 400, "status=99: expected 200 to 599"},
		{"/?status=600", "", 400, `status="600": expected an integer from 0 to 599`},
		{"/?delay=soon", "", 400, `delay="soon": expected a duration`},
		{"/?bytes=-1", "", 400, "bytes"},
	}
	for _, test := range tests {
		request, err := http.NewRequest(http.MethodPost, server.URL+test.path, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Test", "yes")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != test.status || !strings.Contains(string(text), test.says) || response.Header.Get("X-Echo-Pod") != "pod-0" {
			t.Errorf("%s: %d %q %v, %v", test.path, response.StatusCode, text, response.Header, err)
		}
	}
}

// TestDelay: an answer takes as long as it was asked to, or else as long as each answer of this pod.
func TestDelay(t *testing.T) {
	slow, err := parse([]string{"-delay=50ms"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path   string
		config config
	}{{"/?delay=50ms", config{}}, {"/", slow}} {
		server := httptest.NewServer(newEcho(test.config))
		defer server.Close()
		start := time.Now()
		response, err := http.Get(server.URL + test.path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if took := time.Since(start); took < 50*time.Millisecond {
			t.Errorf("%s: answered after %s", test.path, took)
		}
	}
}

// TestStatus: a pod can be one that fails, whatever it is asked; and still counts.
func TestStatus(t *testing.T) {
	config, err := parse([]string{"-status=503"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newEcho(config))
	defer server.Close()
	for path, want := range map[string]int{"/": 503, "/?status=200": 200, "/count?id=a": 200} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
	}
	for _, wrong := range []string{"-status=99", "-status=600"} {
		if _, err := parse([]string{wrong}, io.Discard); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
}

// TestResponse: a text that others ask for, such as the answer to a challenge of ACME, arrives as it was given.
func TestResponse(t *testing.T) {
	t.Setenv("RESPONSE_BODY", "token.thumbprint")
	t.Setenv("RESPONSE_CODE", "202")
	config, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newEcho(config))
	defer server.Close()
	response, err := http.Get(server.URL + "/.well-known/acme-challenge/token")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if kind := response.Header.Get("Content-Type"); err != nil || string(text) != "token.thumbprint" || response.StatusCode != http.StatusAccepted || kind != "text/plain" {
		t.Errorf("%d %q of type %q, %v", response.StatusCode, text, kind, err)
	}
	for _, wrong := range []string{"OK", "99"} {
		t.Setenv("RESPONSE_CODE", wrong)
		if _, err := parse(nil, io.Discard); err == nil {
			t.Errorf("RESPONSE_CODE=%s is accepted", wrong)
		}
	}
}
