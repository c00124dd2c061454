package main

import (
	"net/http"
	"strconv"
)

// bookDetails is what the details service knows of a book.
type bookDetails struct {
	ID        int    `json:"id"`
	Author    string `json:"author"`
	Year      int    `json:"year"`
	Type      string `json:"type"`
	Pages     int    `json:"pages"`
	Publisher string `json:"publisher"`
	Language  string `json:"language"`
	ISBN10    string `json:"ISBN-10"`
	ISBN13    string `json:"ISBN-13"`
}

func details(Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /details/{id}", withID(func(w http.ResponseWriter, _ *http.Request, id int) {
		writeJSON(w, http.StatusOK, bookDetails{
			ID: id, Author: "William Shakespeare", Year: 1595, Type: "paperback", Pages: 200,
			Publisher: "PublisherA", Language: "English", ISBN10: "1234567890", ISBN13: "123-1234567890",
		})
	}))
	return mux
}

// bookRatings are stars, from 1 to 5, by reviewer.
type bookRatings struct {
	ID      int            `json:"id"`
	Ratings map[string]int `json:"ratings"`
}

func ratings(Config) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ratings/{id}", withID(func(w http.ResponseWriter, _ *http.Request, id int) {
		writeJSON(w, http.StatusOK, bookRatings{ID: id, Ratings: map[string]int{"Reviewer1": 5, "Reviewer2": 4}})
	}))
	return mux
}

// bookReviews is the answer of the reviews service, which says on top who gave it and how its call to ratings went.
type bookReviews struct {
	ID      string   `json:"id"`
	Pod     string   `json:"podname"`
	Version string   `json:"version"`
	Reviews []review `json:"reviews"`
	Ratings *call    `json:"ratings,omitempty"`
}

type review struct {
	Reviewer string  `json:"reviewer"`
	Text     string  `json:"text"`
	Rating   *rating `json:"rating,omitempty"`
}

// rating is stars and their colour, or the reason why there are none.
type rating struct {
	Stars int    `json:"stars,omitempty"`
	Color string `json:"color,omitempty"`
	Error string `json:"error,omitempty"`
}

// starColors are the colours of the versions that show stars.
var starColors = map[string]string{"v2": "black", "v3": "red"}

func reviews(config Config) http.Handler {
	caller := newCaller(config.Timeout)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /reviews/{id}", withID(func(w http.ResponseWriter, r *http.Request, id int) {
		answer := bookReviews{
			ID: strconv.Itoa(id), Pod: config.Pod, Version: config.Version,
			Reviews: []review{
				{Reviewer: "Reviewer1", Text: "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!"},
				{Reviewer: "Reviewer2", Text: "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."},
			},
		}
		if color, shown := starColors[config.Version]; shown {
			var stars bookRatings
			result := caller.get(r, "ratings", config.Ratings, "/ratings/"+answer.ID, &stars)
			answer.Ratings = &result
			rate(answer.Reviews, stars, result, color)
		}
		writeJSON(w, http.StatusOK, answer)
	}))
	return mux
}

// rate puts stars to reviews, or says that there are none.
func rate(reviews []review, stars bookRatings, result call, color string) {
	for i := range reviews {
		switch count, rated := stars.Ratings[reviews[i].Reviewer]; {
		case result.Error != "":
			reviews[i].Rating = &rating{Error: "Ratings service is currently unavailable"}
		case rated:
			reviews[i].Rating = &rating{Stars: count, Color: color}
		}
	}
}
