// Command test-network is a CNI plugin that makes no network: it prints the result
// that its configuration holds, in the version that is asked for.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() { os.Exit(run()) }

func run() int {
	var conf struct {
		Result json.RawMessage `json:"result"`
	}
	if err := json.NewDecoder(os.Stdin).Decode(&conf); err != nil {
		fmt.Fprintln(os.Stderr, "test-network:", err)
		return 1
	}
	switch os.Getenv("CNI_COMMAND") {
	case "ADD":
		fmt.Printf("%s", conf.Result)
	case "VERSION":
		fmt.Print(`{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}`)
	}
	return 0
}
