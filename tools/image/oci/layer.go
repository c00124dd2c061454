package oci

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"
)

// File is one entry of an image. Its content is Content, or what the file Source holds when Source is set.
type File struct {
	Path    string      // absolute path in the image
	Mode    fs.FileMode // permission bits; fs.ModeDir makes it a directory, fs.ModeSymlink a link to Link
	Source  string      // file on this machine to copy
	Content []byte
	Link    string // target of a symbolic link
	UID     int
	GID     int
}

// writeLayer writes files as a tar archive in path order, with every missing parent directory as root's, mode 0755.
func writeLayer(w io.Writer, files []File) error {
	entries, err := withParents(files)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if err := writeEntry(archive, entries[name]); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return archive.Close()
}

// withParents indexes files by path and adds the directories above them. Two files of one path are an error.
func withParents(files []File) (map[string]File, error) {
	entries := map[string]File{}
	for _, file := range files {
		if !path.IsAbs(file.Path) || path.Clean(file.Path) != file.Path || file.Path == "/" {
			return nil, fmt.Errorf("path %q of an image file is not absolute and clean", file.Path)
		}
		if _, twice := entries[file.Path]; twice {
			return nil, fmt.Errorf("path %q is in the image twice", file.Path)
		}
		entries[file.Path] = file
	}
	for _, file := range files {
		for dir := path.Dir(file.Path); dir != "/"; dir = path.Dir(dir) {
			if _, known := entries[dir]; !known {
				entries[dir] = File{Path: dir, Mode: fs.ModeDir | 0o755}
			}
		}
	}
	return entries, nil
}

func writeEntry(archive *tar.Writer, file File) error {
	content := file.Content
	if file.Source != "" {
		read, err := os.ReadFile(file.Source)
		if err != nil {
			return err
		}
		content = read
	}
	header := &tar.Header{
		Typeflag: tar.TypeReg,
		Name:     strings.TrimPrefix(file.Path, "/"),
		Mode:     tarMode(file.Mode),
		Size:     int64(len(content)),
		Uid:      file.UID,
		Gid:      file.GID,
		ModTime:  time.Unix(0, 0),
		Format:   tar.FormatPAX,
	}
	switch file.Mode.Type() {
	case fs.ModeDir:
		header.Typeflag, header.Name, header.Size = tar.TypeDir, header.Name+"/", 0
	case fs.ModeSymlink:
		header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, file.Link, 0
	case 0:
	default:
		return fmt.Errorf("a file of mode %s cannot be in an image", file.Mode)
	}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if header.Size == 0 {
		return nil
	}
	_, err := archive.Write(content)
	return err
}

// tarMode translates to the numeric mode of tar, where the sticky and set-id bits have their Unix values.
func tarMode(mode fs.FileMode) int64 {
	bits := int64(mode.Perm())
	for flag, bit := range map[fs.FileMode]int64{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if mode&flag != 0 {
			bits |= bit
		}
	}
	return bits
}
