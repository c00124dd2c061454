package main

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle template.CSS

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"stars": stars,
	"round": func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) },
	"style": func() template.CSS { return pageStyle },
}).Parse(pageText))

// product is a book in the shop. There is one.
type product struct {
	ID          int    `json:"id"`
	Title       string `json:"title"`
	Description string `json:"descriptionHtml"`
}

var theBook = product{
	ID:    0,
	Title: "The Comedy of Errors",
	Description: "Two pairs of twins, parted by a shipwreck, come to the same town on the same day, and everybody is taken for " +
		"somebody else. Shakespeare’s shortest play, one of his first, and quite the most farcical.",
}

// page is what the template shows: a part whose service did not answer is nil or empty, and its call says why.
type page struct {
	Product   product
	Pod       string
	Version   string
	Namespace string
	Details   *bookDetails
	Reviews   []review
	Calls     struct{ Details, Reviews, Ratings call }
	Problems  map[string]*problem // by service
}

// shop answers the pages of the productpage service from the other services.
type shop struct {
	config Config
	caller caller
}

func productpage(config Config) http.Handler {
	shop := shop{config, newCaller(config.Timeout)}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.RedirectHandler("/productpage", http.StatusFound))
	mux.HandleFunc("GET /productpage", shop.page)
	mux.HandleFunc("GET /api/v1/products", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, []product{theBook})
	})
	mux.HandleFunc("GET /api/v1/products/{id}", shop.relay("details", config.Details))
	mux.HandleFunc("GET /api/v1/products/{id}/reviews", shop.relay("reviews", config.Reviews))
	mux.HandleFunc("GET /api/v1/products/{id}/ratings", shop.relay("ratings", config.Ratings))
	return mux
}

// relay answers with what service says of the product, or with the failure of the call.
func (s shop) relay(service, base string) http.HandlerFunc {
	return withID(func(w http.ResponseWriter, r *http.Request, id int) {
		var answer any
		result := s.caller.get(r, service, base, "/"+service+"/"+strconv.Itoa(id), &answer)
		if result.Error != "" {
			status := result.Status
			if status < http.StatusBadRequest {
				status = http.StatusBadGateway
			}
			writeJSON(w, status, map[string]string{"error": service + ": " + result.Error})
			return
		}
		writeJSON(w, http.StatusOK, answer)
	})
}

// page asks details and reviews at once and shows what came back. A failing service leaves a box that says so.
func (s shop) page(w http.ResponseWriter, r *http.Request) {
	shown := page{Product: theBook, Pod: s.config.Pod, Version: s.config.Version, Namespace: s.config.Namespace}
	var details bookDetails
	var reviews bookReviews
	var both sync.WaitGroup
	both.Go(func() { shown.Calls.Details = s.caller.get(r, "details", s.config.Details, "/details/0", &details) })
	both.Go(func() { shown.Calls.Reviews = s.caller.get(r, "reviews", s.config.Reviews, "/reviews/0", &reviews) })
	both.Wait()

	if shown.Calls.Details.Error == "" {
		shown.Details = &details
	}
	if shown.Calls.Reviews.Error == "" {
		shown.Reviews = reviews.Reviews
	}
	if reviews.Ratings != nil {
		shown.Calls.Ratings = *reviews.Ratings
	}
	shown.Calls.Ratings.Service = "ratings"
	shown.Problems = problems(shown)

	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, shown); err != nil {
		http.Error(w, "the page cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = body.WriteTo(w)
}

// stars draws a rating of 1 to 5.
func stars(count int) string {
	count = max(0, min(5, count))
	return strings.Repeat("★", count) + strings.Repeat("☆", 5-count)
}
