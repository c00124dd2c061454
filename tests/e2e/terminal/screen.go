package terminal

import (
	"fmt"
	"io"
	"strings"
)

// A Screen shows a session to a person while it runs. A nil Screen shows nothing.
type Screen struct {
	Out io.Writer
	// Color switches ANSI colors on.
	Color bool
}

const (
	bold  = "\x1b[1m"
	cyan  = "\x1b[36m"
	green = "\x1b[32m"
	reset = "\x1b[0m"
)

// longestOutput is the number of lines shown of one command: a demo is for reading.
const longestOutput = 25

func (s *Screen) heading(text string) {
	s.print("\n" + s.paint(bold, "# "+text) + "\n")
}

func (s *Screen) command(args []string) {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = quote(arg)
	}
	s.print(s.paint(cyan, "$ "+strings.Join(words, " ")) + "\n")
}

func (s *Screen) output(stdout, stderr string) {
	text := strings.TrimRight(stdout+stderr, "\n")
	if text == "" {
		return
	}
	lines := strings.Split(text, "\n")
	if more := len(lines) - longestOutput; more > 0 {
		lines = append(lines[:longestOutput], fmt.Sprintf("... %d more lines", more))
	}
	s.print(strings.Join(lines, "\n") + "\n")
}

func (s *Screen) checked(text string) {
	s.print(s.paint(green, "✓ "+text) + "\n")
}

func (s *Screen) paint(color, text string) string {
	if s == nil || !s.Color {
		return text
	}
	return color + text + reset
}

func (s *Screen) print(text string) {
	if s == nil {
		return
	}
	// A screen that cannot be written to must not stop the session: the checks are what counts.
	_, _ = io.WriteString(s.Out, text)
}

// quote writes a word as a person would type it in a shell.
func quote(word string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (r == '-' || r == '_' || r == '.' || r == '/' || r == ':' || r == '=' || r == ',' || r == '@' ||
			r == '%' || r == '+' || r == '&' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
