package chart

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestValuesAreDocumented keeps VALUES.md what values.yaml and its schema say; -update writes it. A value that neither explains
// fails: its name and default are all that a user would learn.
func TestValuesAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	page := &page{root: readSchema(t)}
	page.line("# Values of the chart")
	page.line("")
	page.line(`Generated from [values.yaml](values.yaml) and [values.schema.json](values.schema.json) by "go test ./tests/chart -update".`)
	page.line(`In a row without words, those of the row above are about it too.`)
	page.section(t, "", page.root, document.Content[0])
	golden(t, filepath.Join(chartDir, "VALUES.md"), page.text.String())
}

// A page is the document as far as it is written.
type page struct {
	root  *schema
	text  strings.Builder
	table bool // its last line is a row
}

func (p *page) line(text string) { p.text.WriteString(text + "\n") }

// section writes the values of a mapping: a heading for each mapping at the top, and a row for each value.
func (p *page) section(t *testing.T, prefix string, s *schema, values *yaml.Node) {
	t.Helper()
	for n := 0; n < len(values.Content); n += 2 {
		key, value := values.Content[n], values.Content[n+1]
		path := prefix + key.Value
		property := p.resolve(s.Properties[key.Value])
		if property == nil {
			t.Fatalf("the schema has no %s", path)
		}
		words := comment(key.HeadComment)
		if words == "" {
			words = cmp.Or(s.Properties[key.Value].Description, property.Description)
		}
		if len(property.Properties) == 0 {
			p.row(t, path, property, value, words)
			continue
		}
		if prefix == "" {
			p.heading(path, words)
		} else if words != "" {
			p.rowOf("`"+path+"`", "", "", words)
		}
		p.section(t, path+".", property, value)
	}
}

func (p *page) heading(path, words string) {
	p.table = false
	p.line("\n## " + path)
	if words != "" {
		p.line("\n" + words)
	}
}

func (p *page) row(t *testing.T, path string, s *schema, value *yaml.Node, words string) {
	t.Helper()
	if !strings.Contains(path, ".") {
		p.heading(path, "")
	}
	var decoded any
	if err := value.Decode(&decoded); err != nil {
		t.Fatal(err)
	}
	standard, err := json.Marshal(decoded)
	if err != nil {
		t.Fatal(err)
	}
	may := p.may(s)
	if may == "" || strings.HasSuffix(may, ": ") || words == "" && !p.table {
		t.Errorf("%s: neither values.yaml nor the schema says what it may be (%q) and what it does (%q)", path, may, words)
	}
	p.rowOf("`"+path+"`", "`"+strings.Trim(string(standard), `"`)+"`", may, words)
}

func (p *page) rowOf(cells ...string) {
	if !p.table {
		p.line("\n| Value | Default | May be | |\n|---|---|---|---|")
		p.table = true
	}
	cells[len(cells)-1] = strings.ReplaceAll(cells[len(cells)-1], "<", "&lt;")
	for n, cell := range cells {
		cells[n] = strings.ReplaceAll(strings.Replace(cell, "``", "", 1), "|", `\|`)
	}
	p.line("| " + strings.Join(cells, " | ") + " |")
}

// resolve follows a reference to a definition.
func (p *page) resolve(s *schema) *schema {
	if s == nil || s.Ref == "" {
		return s
	}
	return p.root.Definitions[strings.TrimPrefix(s.Ref, "#/definitions/")]
}

// may says which values a schema takes.
func (p *page) may(s *schema) string {
	switch {
	case s.Title != "":
		return s.Title
	case len(s.Enum) > 0:
		return "`" + strings.Join(s.Enum, "`, `") + "`"
	case s.Type == "boolean":
		return "`true`, `false`"
	case s.Type == "array" && s.Items != nil:
		return "list of: " + p.may(p.resolve(s.Items))
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("%d to %d", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		return fmt.Sprintf("%d or more", *s.Minimum)
	case s.Pattern == "" && s.Type == "object":
		return "mapping"
	case s.Pattern == "" && s.Type == "string":
		return "text"
	}
	return ""
}

// comment is what a comment says, as one line.
func comment(text string) string {
	var words []string
	for line := range strings.Lines(text) {
		words = append(words, strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#")))
	}
	return strings.Join(words, " ")
}
