# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates give what docker's command line gives: each row was seen there, errors at their places.

The text of an error is our own; where one stands is checked, and that docker refuses too.
"""

from __future__ import annotations

from typing import Any

import pytest

from launcher.cli.template.evaluation import render
from launcher.cli.template.parser import parse
from launcher.documents import ABSENT_LIST, ABSENT_MAP, ABSENT_STRUCT, GoMap, Row
from launcher.errors import LaunchError

ID = "a1" * 32
CONTAINER: dict[str, Any] = {
    "Id": ID,
    "Created": "2026-11-25T10:00:00.123456789Z",
    "Path": "sh",
    "Args": ["-c", "echo hi"],
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Pid": 123,
        "ExitCode": 0,
        "Health": ABSENT_STRUCT,
    },
    "Name": "/eager_curie",
    "HostConfig": {
        "LogConfig": {"Type": "json-file", "Config": GoMap()},
        "CapAdd": ABSENT_LIST,
        "Memory": 0,
        "NanoCpus": 500000000,
    },
    "GraphDriver": {"Name": "overlay2", "Data": GoMap(LowerDir="/l1:/l2")},
    "Mounts": [{"Type": "bind", "Source": "/src", "Destination": "/dst"}],
    "Config": {
        "Env": ["PATH=/bin", "A=b<c>&d"],
        "Cmd": ["sh", "-c", "echo hi"],
        "Volumes": ABSENT_MAP,
        "Labels": GoMap({"b": "2", "a": "1", "com.x": "y"}),
    },
    "NetworkSettings": {
        "Ports": GoMap(
            {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": ABSENT_LIST}
        )
    },
}

GOOD = [
    ("{{json .Config.Env}}", '["PATH=/bin","A=b<c>&d"]'),
    ("{{.Config.Env}}", "[PATH=/bin A=b<c>&d]"),
    ("{{.Config.Labels}}", "map[a:1 b:2 com.x:y]"),
    ("{{.Config.Labels.zz}}", "<no value>"),
    ('{{index .Config.Labels "zz"}}', ""),
    ("{{.HostConfig.CapAdd}}", "[]"),
    ("{{json .HostConfig.CapAdd}}", "null"),
    ("{{.State.Health}}", "<nil>"),
    ("{{if .State.Health}}y{{else}}n{{end}}", "n"),
    ("{{.HostConfig.LogConfig}}", "{json-file map[]}"),
    ("{{range 3}}x{{end}}", "xxx"),
    ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=PATH=/bin;1=A=b<c>&d;"),
    ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;com.x=y;"),
    (
        '{{printf "%5d|%-5s|%05.2f|%q|%x|%v|%T" 3 "ab" 3.14159 "h\\"i" "hi" .Args .Args}}',
        '    3|ab   |03.14|"h\\"i"|6869|[-c echo hi]|[]string',
    ),
    ('{{printf "%d" "x"}}', "%!d(string=x)"),
    ('{{printf "%d %s" 3}}', "3 %!s(MISSING)"),
    ('{{printf "%d" 3 4}}', "3%!(EXTRA int=4)"),
    ('{{printf "%s" 3}}', "%!s(int=3)"),
    (
        '{{printf "%t %c %U %o %b %e %g" true 65 65 8 5 1234.5 1e21}}',
        "true A U+0041 10 101 1.234500e+03 1e+21",
    ),
    (
        '{{printf "%6.2f|%+d|%08b|%#x|% d|%x|%X" 1.0 5 5 255 7 255 255}}',
        "  1.00|+5|00000101|0xff| 7|ff|FF",
    ),
    ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
    ('{{println "a" 1}}', "a 1\n"),
    ("{{eq .State.Pid 123}}", "true"),
    ('{{lt "a" "b"}}', "true"),
    ("{{and 1 0 2}}", "0"),
    ("{{and 1 2}}", "2"),
    ('{{or 0 "" "x"}}', "x"),
    ('{{or 0 ""}}', ""),
    ("{{1 | and 0}}", "0"),
    ("{{1 | and 2}}", "1"),
    ("{{1 | or 0}}", "1"),
    ("{{not 0}}", "true"),
    ("{{len .Args}}", "2"),
    ("{{len .HostConfig.CapAdd}}", "0"),
    ("{{len .Config.Volumes}}", "0"),
    ("{{index .Args 1}}", "echo hi"),
    ('{{slice "abcdef" 1 3}}', "bc"),
    ("{{slice .Args 1}}", "[echo hi]"),
    ('{{join .Args ","}}', "-c,echo hi"),
    ('{{split "a,b" ","}}', "[a b]"),
    (
        '{{title "hello world it\'s o\'neil foo_bar a-b"}} {{upper "a"}} {{lower "A"}} '
        '{{truncate "hello" 3}}[{{pad "x" 2 3}}][{{pad "" 2 3}}]',
        "Hello World It'S O'Neil Foo_bar A-B A a hel[  x   ][]",
    ),
    ('{{truncate "héllo" 9}}', "héllo"),
    ("{{$x := 3}}{{$x}} {{$x = 4}}{{$x}}", "3 4"),
    ('a {{- "b" -}}  c', "abc"),
    ("{{/* hi */}}x", "x"),
    ("{{- /* hi */ -}} x", "x"),
    ("{{/* hi */ -}} x", "x"),
    ('{{define "T"}}[{{.}}]{{end}}{{template "T" .Id}}', f"[{ID}]"),
    ('{{block "B" .State}}{{.Pid}}{{end}}', "123"),
    ("{{with .State}}{{.Pid}}{{else}}no{{end}}", "123"),
    ("{{with $h := .HostConfig.NanoCpus}}{{$h}}{{end}}", "500000000"),
    ("{{with .HostConfig.Memory}}{{.}}{{else}}none{{end}}", "none"),
    ("{{(index .Mounts 0).Source}}", "/src"),
    ('{{.Args | len | printf "%03d"}}', "002"),
    (
        '{{html "<a>&\\"x\\"\'"}} {{js "it\'s <b> \\"=\\" &"}} {{urlquery "a b&c/é~"}}',
        '&lt;a&gt;&amp;&#34;x&#34;&#39; it\\\'s \\u003Cb\\u003E \\"\\u003D\\" \\u0026 '
        "a+b%26c%2F%C3%A9~",
    ),
    (
        '{{range .Config.Env}}{{if eq . "PATH=/bin"}}{{continue}}{{end}}{{.}}{{break}}{{end}}',
        "A=b<c>&d",
    ),
    ("{{range .HostConfig.CapAdd}}x{{else}}none{{end}}", "none"),
    (
        "{{'a'}} {{0x1F}} {{1_000}} {{1.5e3}} {{-3}} {{0b11}} {{0o17}} {{017}} {{+4}} {{.5}}",
        "97 31 1000 1500 -3 3 15 15 4 0.5",
    ),
    ("{{'\\n'}} {{'\\''}} {{'é'}}", "10 39 233"),
    ("{{.GraphDriver.Data.LowerDir}}", "/l1:/l2"),
    (
        "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{$c}} {{end}}",
        "443/tcp -> [] 80/tcp -> [{0.0.0.0 8080}] ",
    ),
    ("{{.Created}}", "2026-11-25T10:00:00.123456789Z"),
    ("{{json .Created}}", '"2026-11-25T10:00:00.123456789Z"'),
    ('{{eq .Created "x"}}', "false"),
    ("{{true}} {{false}}", "true false"),
    (
        "{{1.0}} {{1e6}} {{1e21}} {{0.00001}} {{0.0001}} {{100000000.5}} {{123456.0}} "
        "{{1234567.0}} {{-0.5}} {{1e-7}} {{12345.678}} {{1e20}} {{2.5e10}}",
        "1 1e+06 1e+21 1e-05 0.0001 1.000000005e+08 123456 1.234567e+06 -0.5 1e-07 "
        "12345.678 1e+20 2.5e+10",
    ),
    ('{{`raw\\n`}}{{"t\\tx\\u00e9\\x41\\101"}}', "raw\\nt\txéAA"),
    ("{{if 1}}a{{else if 2}}b{{else}}c{{end}}", "a"),
    ("{{if 0}}a{{else if 2}}b{{else}}c{{end}}", "b"),
    ("{{if 0}}a{{else if 0}}b{{else}}c{{end}}", "c"),
    ("{{with 0}}{{else with 5}}{{.}}{{end}}", "5"),
    ("{{.State.Running | not}}", "false"),
    ("{{.Config.Cmd}}", "[sh -c echo hi]"),
    ("{{ge 3 2}}{{ne 1 2 }}{{eq 1 2 1}}{{gt 1.5 1.2}}{{le 2 2}}", "truetruetruetruetrue"),
    ("{{eq nil nil}}", "true"),
    ("{{eq .Config.Volumes nil}}", "true"),
    ("x\\ty\\n", "x\\ty\\n"),
    ("{{.Id|}}", ID),
    ("{{.Id | len | lt 3}}", "true"),
    ('{{if and .State.Running (not .State.Paused) (eq .State.Status "running")}}up{{end}}', "up"),
    ("{{range $i, $v := .Args}}{{if $i}}, {{end}}{{$v}}{{end}}", "-c, echo hi"),
    ("{{range $v := .Args}}{{$v}};{{end}}", "-c;echo hi;"),
    ('{{$a := "x"}}{{range .Args}}{{$a = .}}{{end}}{{$a}}', "echo hi"),
    ('{{$a := "x"}}{{if true}}{{$a := "y"}}{{$a}}{{end}}{{$a}}', "yx"),
    ("{{range .Args}}{{.}}{{$.Name}}{{end}}", "-c/eager_curieecho hi/eager_curie"),
    ('{{.State.Pid | printf "%d-%s" 3}}', "3-%!s(int=123)"),
    ('{{printf "%v %v %v" nil true 1.5}}', "<nil> true 1.5"),
    ('{{printf "%s" .Args}}', "[-c echo hi]"),
    ('{{printf "%q" .Args}}', '["-c" "echo hi"]'),
    ('{{printf "%5t|%-8v|%8v|" true "a" 1.5}}', " true|a       |     1.5|"),
    (
        '{{printf "%.3s|%.0f|%.1f|%g|%G|%E" "abcdef" 2.5 2.25 1e-7 1e-7 12.0}}',
        "abc|2|2.2|1e-07|1E-07|1.200000E+01",
    ),
    ('{{printf "%*d" 5 3}}', "    3"),
    ('{{printf "%%|%z" 3}}', "%|%!z(int=3)"),
    ('{{printf "%"}}', "%!(NOVERB)"),
    ('{{printf "%#v %+v" "a" 3}}', '"a" 3'),
    ('{{printf "%06d|%-06d|%+06d|%x" -12 12 12 -255}}', "-00012|12    |+00012|-ff"),
    ('{{printf "% x|%X" "abc" "abc"}}', "61 62 63|616263"),
    ('{{printf "%q %q" 65 "\\x01é\\u00ad"}}', "'A' \"\\x01é\\u00ad\""),
    ("{{print}}|{{println}}", "|\n"),
    ("{{print nil}}", "<nil>"),
    ('{{index "abc" 1}}', "98"),
    ('{{index .Config.Labels "a" 0}}', "49"),
    (
        '{{json .Config.Labels}}{{json .State.Running}}{{json 1.5}}{{json "<a>"}}',
        '{"a":"1","b":"2","com.x":"y"}true1.5"<a>"',
    ),
    ("{{json .HostConfig.LogConfig}}", '{"Type":"json-file","Config":{}}'),
    ("{{.Id | json}}", f'"{ID}"'),
    ('{{"a" | printf "%s %s" "b"}}', "b a"),
    ("{{(1)}} {{((.Id))}}", f"1 {ID}"),
    ("{{range $i := 2}}{{$i}}{{end}}", "01"),
    ("{{range 0}}x{{else}}zero{{end}}", "zero"),
    ("{{-3}} {{- 3}} {{3 -}} x", "-33 3x"),
    ('{{len (join .Args "")}}', "9"),
    ("{{if not (eq .State.ExitCode 0)}}bad{{else}}good{{end}}", "good"),
    ("{{/*a*/}}{{/*b*/}}ok", "ok"),
    ("{{if true -}}   x   {{- end}}|", "x|"),
    ('{{len "héé"}}', "5"),
    ('{{eq "a" .Name "/eager_curie"}}', "false"),
    ("{{.Path}}", "sh"),
    ("  x  ", "  x  "),
    ("{{.Path -}}", "sh"),
    (" y", " y"),
    ("{{.Path}}\n{{.Name}}", "sh\n/eager_curie"),
    ("{{.Path -}}\n\n y", "shy"),
    ("{{range .Args -}}\n{{.}}\n{{- end}}", "-cecho hi"),
    ("{{.Path\n}}", "sh"),
    ("{{`a\nb`}}", "a\nb"),
]

WRONG = [
    ("{{.State.Health.Status}}", "column 3: nil has no field Status"),
    ("{{eq 1 1.0}}", "column 3: eq: an int cannot be compared with a float64"),
    ("{{index .Args 5}}", "column 3: index: there is no element 5, only 2"),
    ("{{index .Args -1}}", "column 3: index: there is no element -1, only 2"),
    ("{{.Foo}}", "column 3: there is no field Foo"),
    ("{{foo}}", "column 3: there is no function foo"),
    ("{{if}}", "column 3: if needs a value"),
    ('{{"abc}}', "column 3: this quote has no end"),
    ("{{end}}", "column 3: there is nothing to end"),
    ("{{if .Id}}", "column 3: this if has no end"),
    ("{{len}}", "column 3: len takes 1 argument, not 0"),
    ("{{len 3}}", "column 3: len: an int has no length"),
    ("{{$y}}", "column 3: there is no variable $y"),
    ("{{$x = 3}}", "column 3: there is no variable $x"),
    ('{{template "nope"}}', "column 3: there is no template nope"),
    (
        '{{define "T"}}{{template "T"}}{{end}}{{template "T"}}',
        "column 17: template T includes itself without end",
    ),
    ("{{nil}}", "column 3: nil alone is nothing to be done"),
    (
        "{{range $p, $c := .NetworkSettings.Ports}}{{$p}} -> {{(index $c 0).HostPort}} {{end}}",
        "column 56: index: there is no element 0, only 0",
    ),
    ("{{.Id.Foo}}", "column 3: a string has no field Foo"),
    ("{{.Args.Foo}}", "column 3: a []string has no field Foo"),
    ("{{3 4}}", "column 3: only functions take arguments"),
    ('{{.Id "x"}}', "column 3: Id takes no arguments"),
    ("{{$.Id | truncate}}", "column 10: truncate takes 2 arguments, not 1"),
    ('{{"\\q"}}', "column 3: there is no escape \\q"),
    ("{{else}}", "column 3: there is nothing to else"),
    ("{{range .Args}}{{else if 1}}{{end}}", "column 23: if is not expected here"),
    ("{{eq true 1}}", "column 3: eq: a bool cannot be compared with an int"),
    ("{{lt true false}}", "column 3: lt: a bool is neither less nor more"),
    ("{{x\\ty\\n", "column 4: unexpected '\\\\'"),
    ("{{/* x", "column 1: the comment has no end"),
    ("{{|len}}", "column 3: | is not expected here"),
    ("{{(.Id}}", "column 4: this parenthesis is not closed"),
    ("{{.Id)}}", "column 6: ) is not expected here"),
    ("{{a.b}}", "column 3: there is no function a"),
    ("{{.Id}}{{.Id", "column 8: this {{ has no }}"),
    ("{{}}", "column 3: there is nothing between {{ and }}"),
    ("{{ }}", "column 4: there is nothing between {{ and }}"),
    ("{{if true}}{{$z := 1}}{{end}}{{$z}}", "column 32: there is no variable $z"),
    ("{{with $x := 5}}{{$x}}{{end}}{{$x}}", "column 32: there is no variable $x"),
    ("{{break}}", "column 3: break outside of range"),
    ("{{index .Config.Labels 3}}", "column 3: index: the keys of a map are strings, not an int"),
    ("{{index .State 1}}", "column 3: index: a struct has no elements"),
    ('{{range "abc"}}{{.}}{{end}}', "column 9: range cannot go over a string"),
    ("{{range 2.5}}{{end}}", "column 9: range cannot go over a float64"),
    ('{{"a"}} {{-"b"}}', "column 11: unexpected '-'"),
    ('{{printf "%d"3}}', "column 14: 3 is not expected without a space before it"),
    ("{{.Id.}}", "column 6: . is not expected without a space before it"),
    ("{{..Id}}", "column 4: .Id is not expected here"),
    ("{{true.x}}", "column 7: .x is not expected here"),
    ('{{"a".x}}', "column 6: .x is not expected here"),
    ('{{.Args | join ","}}', "column 11: join: a string is no list"),
    ("{{join .Args | len}}", "column 3: join takes 2 arguments, not 1"),
    ("{{.State.ExitCode.x}}", "column 3: an int has no field x"),
    ("{{ /* sp */ }}x", "column 1: a comment fills the whole of its {{ }}"),
    ("{{/*a*/b}}", "column 1: a comment fills the whole of its {{ }}"),
    ("{{$x, $y := .Args}}", "column 3: there is no variable $x"),
    ("{{range $x, $y, $z := .Args}}{{end}}", "column 9: there is no variable $x"),
    ("{{$x := }}", "column 3: a variable needs a value"),
    ('{{"a" "b"}}', "column 3: only functions take arguments"),
    ("{{3 | 4}}", "column 7: nothing can be piped into what is no function"),
    ("{{.Id | .Name}}", "column 9: Name takes no arguments"),
    ('{{slice "abc" 2 1}}', "column 3: slice: 2 is behind 1"),
    ('{{slice "abc" 5}}', "column 3: slice: there is no element 5, only 3"),
    ("{{not}}", "column 3: not takes 1 argument, not 0"),
    ("{{eq 1}}", "column 3: eq takes at least 2 arguments, not 1"),
    ("{{eq}}", "column 3: eq takes at least 2 arguments, not 0"),
    ('{{pad "x" "y" 3}}', "column 3: pad: a string is no number"),
    ("{{upper 3}}", "column 3: upper: an int is no string"),
    ("{{99999999999}} {{0x}} ", "column 19: 0x is no number"),
    ("{{08}}", "column 3: 08 is no number"),
    ("{{1__0}}", "column 3: 1__0 is no number"),
    ("{{''}}", "column 3: this quote has no end"),
    ("{{template T}}", "column 12: template needs a name in quotes"),
    ('{{define "x"}}', "column 3: this define has no end"),
    ("{{else if}}", "column 3: there is nothing to else"),
    ("a\n{{.Foo}}", "line 2, column 3: there is no field Foo"),
    ('{{printf "a\nb"}}', "line 1, column 10: this quote has no end"),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_a_template_gives_what_docker_gives(text: str, expected: str) -> None:
    assert render(parse(text), CONTAINER) == expected


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_an_error_says_where_and_why(text: str, expected: str) -> None:
    with pytest.raises(LaunchError, match=r"^cannot use format ") as caught:
        render(parse(text), CONTAINER)
    assert str(caught.value.reason).startswith(expected)
    assert "\n" not in str(caught.value)


def test_a_row_finds_out_only_what_is_asked_for() -> None:
    def fail() -> str:
        raise AssertionError("asked for")

    row = Row({"ID": "1", "Size": fail}, {"Label": lambda name: f"<{name}>"})
    assert render(parse('{{.ID}} {{.Label "x"}} {{"y" | .Label}}'), row) == "1 <x> <y>"
    for text in ("{{.Label}}", '{{.ID "x"}}', '{{.Label "x" "y"}}', "{{.Label.x}}", "{{.Nope}}"):
        with pytest.raises(LaunchError):
            render(parse(text), row)


def test_a_row_as_json_has_its_fields_by_name() -> None:
    row = Row({"Names": "x", "ID": lambda: "1"}, {"Label": str})
    assert render(parse("{{json .}}"), row) == '{"ID":"1","Names":"x"}'


def test_json_of_bytes_that_are_no_text_is_still_json() -> None:
    assert render(parse("{{json .}}"), {"a": "x\udcff"}) == '{"a":"x\ufffd"}'
