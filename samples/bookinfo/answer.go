package main

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Headers that say who answered.
const (
	podHeader     = "X-Bookinfo-Pod"
	versionHeader = "X-Bookinfo-Version"
)

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// The client has gone if this fails: there is nobody to tell.
	_ = json.NewEncoder(w).Encode(value)
}

// withID answers 400 unless the path's {id} is a number, as the first Bookinfo does.
func withID(next func(w http.ResponseWriter, r *http.Request, id int)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": "please provide numeric product ID"})
			return
		}
		next(w, r, id)
	}
}
