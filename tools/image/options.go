package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/yaml"
)

// Options say which images to build and where they go.
type Options struct {
	Root      string        // the module's folder
	Registry  string        // registry and repository prefix
	Version   string        // tag and label of the images
	Platforms []v1.Platform // one image each
	Products  []product
	Archive   string // file to write instead of pushing to Registry; may be empty
	Values    string // helm values file to write; may be empty
}

func parse(arguments []string, usage io.Writer) (Options, error) {
	options := Options{}
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.Usage = func() {
		fmt.Fprintln(usage, "usage: image [flags] [name ...]    builds the named images, or all of them")
		flags.PrintDefaults()
	}
	flags.StringVar(&options.Root, "root", ".", "folder of the module")
	flags.StringVar(&options.Registry, "registry", "localhost:5000", "registry and repository prefix of the images")
	flags.StringVar(&options.Version, "version", "", "tag of the images (default: the chart's appVersion)")
	flags.StringVar(&options.Archive, "archive", "", "write a file for docker load, ctr import or kind load; do not push")
	flags.StringVar(&options.Values, "values", "", "write a helm values file that names the images by digest")
	platforms := flags.String("platform", "linux/"+runtime.GOARCH, "platforms, separated by commas")
	if err := flags.Parse(arguments); err != nil {
		return Options{}, err
	}
	var err error
	if options.Platforms, err = parsePlatforms(*platforms); err != nil {
		return Options{}, err
	}
	if options.Archive != "" && len(options.Platforms) > 1 {
		return Options{}, errors.New("-archive: an archive holds one platform, give -platform one only")
	}
	if options.Version == "" {
		if options.Version, err = chartVersion(options.Root); err != nil {
			return Options{}, err
		}
	}
	options.Products, err = pick(flags.Args())
	return options, err
}

func parsePlatforms(list string) ([]v1.Platform, error) {
	var platforms []v1.Platform
	for text := range strings.SplitSeq(list, ",") {
		platform, err := v1.ParsePlatform(text)
		if err != nil || platform.OS != "linux" || platform.Architecture == "" || platform.Variant != "" {
			return nil, fmt.Errorf("-platform: %q is not of the form linux/amd64", text)
		}
		if slices.ContainsFunc(platforms, platform.Equals) {
			return nil, fmt.Errorf("-platform: %s is there twice", platform)
		}
		platforms = append(platforms, *platform)
	}
	return platforms, nil
}

// chartVersion reads the version that the chart installs by default.
func chartVersion(root string) (string, error) {
	text, err := os.ReadFile(filepath.Join(root, "charts/kubernetes-traffic-manager/Chart.yaml"))
	if err != nil {
		return "", fmt.Errorf("find the default of -version: %w", err)
	}
	var chart struct {
		AppVersion string `json:"appVersion"`
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		return "", fmt.Errorf("find the default of -version: %w", err)
	}
	return chart.AppVersion, nil
}

// pick returns the products of the given names, or all if there are none.
func pick(names []string) ([]product, error) {
	if len(names) == 0 {
		return products, nil
	}
	var known []string
	for _, product := range products {
		known = append(known, product.name)
	}
	var picked []product
	for _, name := range names {
		i := slices.Index(known, name)
		if i < 0 {
			return nil, fmt.Errorf("there is no image %q; there are %s", name, strings.Join(known, ", "))
		}
		picked = append(picked, products[i])
	}
	return picked, nil
}
