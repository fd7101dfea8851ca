// Computes the status of Kubernetes objects with the library of Flux and Helm. Each line of stdin is an
// object as JSON; each line of stdout is its status, a tab, and the message. The operator's tests run it.
package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const longestLine = 16 << 20

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		if err := compute(lines.Bytes()); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func compute(line []byte) error {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON(line); err != nil {
		return err
	}
	result, err := status.Compute(object)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\t%s\n", result.Status, result.Message)
	return err
}
