# Copyright (c) 2026, the iterable_sync developers

# Random values of every type: the payload is what SQL makes of the same values
# by other means, whatever the settings of the session, role and database are.
# A failure can be had again with the seed that is printed: set
# ITERABLE_SYNC_SEED.

use strict;
use warnings;
use utf8;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;

my $ROWS = 3000;
my $ROWS_A_STATEMENT = 100;

my $seed = $ENV{ITERABLE_SYNC_SEED} // time() ^ ($$ << 8);
srand($seed);
note("seed $seed");

my $emulator = start_emulator(usersRate => 0, eventsRate => 0);
my $node = start_cluster('main');
create_connection($node, 'prod', $emulator, users_rate => 1000, events_rate => 1000);

sub sql
{
	my ($sql) = @_;

	utf8::encode($sql);
	return $node->safe_psql('postgres', $sql);
}

#
# Random values, as SQL.  A value that makes its row a failure is made where
# $bad is set; it is then the class of the failure.
#
our $may_be_bad = 0;
my $bad = '';

sub below { return int(rand($_[0])); }
sub pick { return $_[ below(scalar @_) ]; }
sub quoted { my ($text) = @_; $text =~ s/'/''/g; return "'$text'"; }
sub times_of { my ($most, $code) = @_; return map { $code->() } 1 .. below($most + 1); }

# Should this value be a bad one?
sub fails
{
	my ($class) = @_;

	return 0 if !$may_be_bad || below(2);
	$may_be_bad = 0;
	$bad = $class;
	return 1;
}

sub digits { my ($n) = @_; return join('', map { below(10) } 1 .. $n); }

sub integer
{
	my ($bits) = @_;
	my $max = { 16 => '32767', 32 => '2147483647', 64 => '9223372036854775807' }->{$bits};
	my $min = { 16 => '-32768', 32 => '-2147483648', 64 => '-9223372036854775808' }->{$bits};

	return pick($max, $min, 0, 1, -1) if !below(4);
	return pick('', '-') . below(10 ** pick(1, 4, { 16 => 4, 32 => 9, 64 => 18 }->{$bits}));
}

sub numeric
{
	return pick('NaN', 'Infinity', '-Infinity') if fails('not_a_number');
	return pick('0', '0.000', '-1', '1e300', '1e-300', '-1e131', '99999999999999999999999999999999999.9999999999', '1.10')
	  if !below(5);
	return pick('', '-') . digits(1 + below(40)) . pick('', '.' . digits(1 + below(30)));
}

sub float
{
	my ($exponent, @extremes) = @_;

	return pick('NaN', 'Infinity', '-Infinity') if fails('not_a_number');
	return pick('0', '-0', '0.1', '1', '16777217', '1e15', '123456789012345', @extremes) if !below(4);
	return sprintf('%s%.17fe%d', pick('', '-'), rand(10), below(2 * $exponent) - $exponent);
}

# Of what there is in Unicode; 0 is not in PostgreSQL.
sub text
{
	my ($most) = @_;
	my @of = (
		sub { chr(32 + below(95)) },
		sub { chr(1 + below(31)) },
		sub { pick('"', '\\', '\\u0041', '/', "'", '<', '&', '{', '}', ',', '=>', 'NULL', "\x7f") },
		sub { chr(0xa0 + below(0x700)) },
		sub { chr(pick(0x300, 0x202e, 0x2028, 0x2029, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0x200d, 0x85)) },
		sub { chr(0x4e00 + below(0x5000)) },
		sub { chr(0x10000 + below(0x100000)) });

	$most = 3000 if $most == 20 && !below(100);
	my $text = join('', times_of($most, sub { pick(@of)->() }));
	return substr($text, 0, $most);
}

sub xml_text
{
	return join('', times_of(20, sub { pick('x', ' ', '&lt;', '&amp;', '&#233;', '"', "'", '\\', '<b/>', "\t", "\x{e9}", "\x{1f600}", "\x{20ac}") }));
}

sub json
{
	my ($depth, $escaped) = @_;
	my $string = sub {
		my $text = text(8);

		$text =~ s/([\\"\x01-\x1f])/sprintf('\\u%04x', ord($1))/ge;
		return "\"$text" . ($escaped ? pick('', '\\ud83d\\ude00', '\\/\\b') : '') . '"';
	};
	my @of = ($string, $string, sub { numeric() }, sub { pick('true', 'false', 'null') });

	push @of,
	  sub { '[' . join(pick(',', ' , '), times_of(4, sub { json($depth - 1, $escaped) })) . ']' },
	  sub { '{' . join(',', times_of(4, sub { $string->() . pick(':', ' : ') . json($depth - 1, $escaped) })) . '}' }
	  if $depth > 0;
	local $may_be_bad = 0;
	my $json = pick(@of)->();
	return $json =~ s/^(-?)0+(?=\d)/$1/r;
}

my @bad_dates = ('infinity', '-infinity', '10000-01-01', '4000-01-01 BC');

sub date
{
	my ($margin) = @_;

	return pick(@bad_dates) . "'::date" if fails('bad_date');
	return pick('0001-01-01', '9999-12-31', '1999-12-31', '2000-01-01', '1970-01-01', '2024-02-29') . "'::date"
	  if !$margin && !below(5);
	return "0001-01-01'::date + " . (2 + below(3652050));
}

sub timestamp
{
	return pick(@bad_dates, '294276-12-31') . "'::timestamp" if fails('bad_date');

	# hours that do not exist or exist twice in some zones, and boundaries
	return pick('2024-03-31 02:30', '2024-10-27 02:30', '2024-03-10 02:30', '2024-11-03 01:30', '1999-12-31 23:59:59.999999',
		'1969-12-31 23:59:59.5', '2000-01-01', '0001-01-03', '9999-12-29 23:59:59.999999') . "'::timestamp"
	  if !below(3);
	return sprintf(q{0001-01-03'::timestamp + %d * interval '1 day' + %d * interval '1 microsecond'}, below(3652050), below(86_400_000_000));
}

my $intervals_end = sql('SHOW server_version_num') < 170000;

sub interval
{
	return "'" . pick('infinity', '-infinity') . "'::interval" if !$intervals_end && fails('bad_date');
	my $part = sub { return pick(0, 0, below(100) - 50, below(20000) - 10000); };

	return sprintf("make_interval(%d, %d, 0, %d, %d, %d, %d)", map { $part->() } 1 .. 6)
	  . sprintf(" + interval '%d microseconds'", pick(0, below(2_000_000) - 1_000_000));
}

sub clock { return sprintf('%02d:%02d:%02d%s', below(24), below(60), below(60), pick('', '.' . digits(1 + below(6)))); }

sub ipv4 { return join('.', map { below(256) } 1 .. 4); }
sub ipv6 { return join(':', map { sprintf('%x', pick(0, below(65536))) } 1 .. 8); }

# Longitude and latitude
sub point
{
	my $x = pick(-180, 180, 0, '-0', 1e-20, (rand(360) - 180) x 3);
	my $y = pick(-90, 90, 0, 1e-20, (rand(180) - 90) x 3);

	if (fails('bad_geo_location'))
	{
		($x, $y) = @{ pick([ 181, 0 ], [ 0, -90.5 ], [ "NaN", 0 ], [ 0, "Infinity" ]) };
	}
	return "point('$x'::float8, '$y'::float8)";
}

#
# Types: what they are called, a value, and what is expected of one, in SQL
#
my @types;
my %named;

sub type
{
	my ($name, $value, $expected, %more) = @_;
	my $type = { sql => $name, value => $value, %more };

	$type->{function} = sprintf('expected.f%d', scalar @types);
	sql(qq{
		CREATE FUNCTION $type->{function}(v $name) RETURNS jsonb LANGUAGE sql STABLE AS \$sql\$
		SELECT CASE WHEN v IS NOT DISTINCT FROM NULL THEN 'null'::jsonb ELSE $expected END \$sql\$});
	push @types, $type;
	$named{ $more{key} // $name } = $type;
	return $type;
}

# A value of a type, or NULL
sub value
{
	my ($type, $nulls) = @_;

	return 'NULL' if $nulls && !below($nulls);
	return $type->{value}->();
}

sub array_of
{
	my ($type, $dimensions, %more) = @_;
	my $name = "$type->{sql}\[]";
	my $list = sub { my ($n) = @_; return join(', ', map { value($type, 6) } 1 .. $n); };

	return type(
		$name,
		sub { return "ARRAY[" . $list->(below(5)) . "]::$name"; },
		qq{(SELECT coalesce(jsonb_agg($type->{function}(v[i]) ORDER BY i), '[]') FROM generate_subscripts(v, 1) i)},
		%more) if $dimensions == 1;
	return type(
		$name,
		sub {
			my ($rows, $columns) = (1 + below(3), 1 + below(3));

			return "ARRAY[" . join(', ', map { '[' . $list->($columns) . ']' } 1 .. $rows) . "]::$name";
		},
		qq{(SELECT jsonb_agg((SELECT jsonb_agg($type->{function}(v[i][j]) ORDER BY j) FROM generate_subscripts(v, 2) j) ORDER BY i)
			FROM generate_subscripts(v, 1) i)},
		key => "$name 2", %more);
}

sub range_expected
{
	my ($function, $v) = @_;

	return qq{CASE WHEN isempty($v) THEN '{"empty": true}'::jsonb ELSE jsonb_build_object(
		'lower', CASE WHEN lower_inf($v) THEN 'null'::jsonb ELSE $function(lower($v)) END,
		'upper', CASE WHEN upper_inf($v) THEN 'null'::jsonb ELSE $function(upper($v)) END,
		'lower_inclusive', lower_inc($v), 'upper_inclusive', upper_inc($v)) END};
}

sub range_of
{
	my ($name, $element, $value, %more) = @_;

	return type(
		$name,
		sub {
			my ($a, $b) = map { "($_)" } ($value->(), $value->());
			my $collate = $element->{sql} eq 'text' ? ' COLLATE "C"' : '';
			my $brackets = pick('[', '(') . pick(']', ')');

			return "'empty'::$name" if $bad eq '' && !below(8);
			return "$name(NULL, $a, '$brackets')" if $bad eq '' && !below(6);
			return "$name($a, NULL, '$brackets')" if $bad eq '' && !below(6);
			return "$name(least($a$collate, $b$collate), greatest($a$collate, $b$collate), '$brackets')";
		},
		range_expected($element->{function}, 'v'), %more);
}

sub multirange_of
{
	my ($name, $range, $element) = @_;

	return type(
		$name,
		sub {
			# a bad value may be swallowed by a range without end
			local $may_be_bad = 0;
			return "$name(" . join(', ', times_of(4, sub { $range->{value}->() })) . ')';
		},
		q{(SELECT coalesce(jsonb_agg(} . range_expected($element->{function}, 'r') . q{ ORDER BY n), '[]') FROM unnest(v) WITH ORDINALITY AS u(r, n))});
}

# attributes: pairs of a name and a type
sub composite_of
{
	my ($name, @attributes) = @_;
	my @names = map { $_->[0] } @attributes;

	return type(
		$name,
		sub { return 'ROW(' . join(', ', map { value($_->[1], 5) } @attributes) . ")::$name"; },
		'jsonb_build_object('
		  . join(', ', map { quoted($_->[0]) . ', ' . $_->[1]{function} . '((v)."' . $_->[0] =~ s/"/""/gr . '")' } @attributes) . ')');
}

sql(q{
	CREATE SCHEMA expected;
	CREATE TYPE mood AS ENUM ('calm', 'no "peace"', E'back\\\\slash\n', 'größe', '😀');
	CREATE TYPE float_range AS RANGE (subtype = float8, subtype_diff = float8mi);
	CREATE TYPE text_range AS RANGE (subtype = text, collation = "C");
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE DOMAIN very_positive AS positive;
	CREATE DOMAIN numbers AS numeric[];
	CREATE DOMAIN days AS daterange;
});

my $number = 'to_jsonb(v)';
my $string = 'to_jsonb(v::text)';
my $decimal = 'to_jsonb(v::text::numeric)';
my $form = q{'YYYY-MM-DD HH24:MI:SS +00:00'};

type('smallint', sub { integer(16) }, $number);
my $int = type('integer', sub { integer(32) }, $number);
my $bigint = type('bigint', sub { quoted(integer(64)) . '::bigint' }, $number);
my $numeric = type('numeric', sub { quoted(numeric()) . '::numeric' }, $number);
type('real', sub { quoted(float(36, '3.4028235e38', '1e-45')) . '::real' }, $decimal);
my $float = type('double precision', sub { quoted(float(290, '1.7976931348623157e308', '5e-324')) . '::float8' }, $decimal);
my $bool = type('boolean', sub { pick('true', 'false') }, $number);
my $text = type('text', sub { quoted(text(20)) }, $string);
type('varchar(30)', sub { quoted(text(30)) . '::varchar(30)' }, $string);
type('character(7)', sub { quoted(text(7)) . '::char(7)' }, $string);
type('name', sub { quoted(text(12)) . '::name' }, $string);
type('"char"', sub { quoted(chr(1 + below(127))) . '::"char"' }, $string);
my $mood = type('mood', sub { '(enum_range(NULL::mood))[' . (1 + below(5)) . ']' }, $string);
my $uuid = type('uuid', sub { sprintf("'%08x-%04x-%04x-%04x-%04x%08x'::uuid", below(2**32), (map { below(65536) } 1 .. 4), below(2**32)) }, $string);
my $date = type('date', sub { "('" . date(0) . ')' }, q{to_jsonb(to_char(v, 'YYYY-MM-DD'))});
my $timestamp = type('timestamp', sub { "('" . timestamp() . ')' }, qq{to_jsonb(to_char(v, $form))});
my $timestamptz = type('timestamptz', sub { "(('" . timestamp() . ") AT TIME ZONE 'UTC')" }, qq{to_jsonb(to_char(v AT TIME ZONE 'UTC', $form))});
type('time', sub { quoted(pick('24:00', clock())) . '::time' }, $string);
type('timetz', sub { quoted(clock() . pick('+', '-') . sprintf('%02d:%02d', below(16), below(60))) . '::timetz' }, $string);
my $interval = type('interval', sub { '(' . interval() . ')' }, $string);
my $inet = type('inet', sub { quoted(pick(ipv4(), ipv4() . '/' . below(33), ipv6(), ipv6() . '/' . below(129))) . '::inet' },
	q{to_jsonb(host(v) || CASE WHEN masklen(v) < CASE family(v) WHEN 4 THEN 32 ELSE 128 END THEN '/' || masklen(v) ELSE '' END)});
type('cidr', sub { 'network(' . quoted(pick(ipv4() . '/' . below(33), ipv6() . '/' . below(129))) . ')::cidr' },
	q{to_jsonb(host(v) || '/' || masklen(v))});
type('macaddr', sub { sprintf("'%06x%06x'::macaddr", below(2**24), below(2**24)) }, $string);
type('macaddr8', sub { sprintf("'%08x%08x'::macaddr8", below(2**32), below(2**32)) }, $string);
type('bit(9)', sub { "B'" . join('', map { below(2) } 1 .. 9) . "'::bit(9)" }, $string);
type('bit varying', sub { "B'" . join('', map { below(2) } 1 .. below(40)) . "'::varbit" }, $string);
type('xml', sub { quoted('<a b="' . pick('1', "\x{e9}") . '">' . xml_text() . '</a>') . '::xml' }, $string);
my $bytea = type('bytea', sub { "decode('" . join('', map { sprintf('%02x', below(256)) } 1 .. below(pick(4, 100, 5000))) . "', 'hex')" },
	q{to_jsonb(translate(encode(v, 'base64'), E'\n', ''))});
type('json', sub { quoted(json(3, 1)) . '::json' }, 'v::jsonb');
my $jsonb = type('jsonb', sub { quoted(json(3, 1)) . '::jsonb' }, 'v');
type('point', \&point, q{jsonb_build_object('lat', v[1]::text::numeric, 'lon', v[0]::text::numeric)},
	column => 'home_geo_location', inside => 0);

# local times of a zone
my $zone = 'America/St_Johns';
my @local = (time_zone => $zone);
my $local = type('timestamp', sub { "('" . timestamp() . ')' },
	qq{to_jsonb(to_char((v AT TIME ZONE '$zone') AT TIME ZONE 'UTC', $form))}, key => 'local', @local);

# bounds may not pass over the end when they are made canonical
my $bound = sub { below(2_000_000_000) - 1_000_000_000 };
my $int_range = range_of('int4range', $int, $bound);
range_of('int8range', $bigint, $bound);
range_of('numrange', $numeric, $numeric->{value});
range_of('float_range', $float, $float->{value});
range_of('text_range', $text, $text->{value});
my $date_range = range_of('daterange', $date, sub { "'" . date(1) });
range_of('tsrange', $timestamp, $timestamp->{value});
my $stamp_range = range_of('tstzrange', $timestamptz, $timestamptz->{value});
range_of('tsrange', $local, $local->{value}, key => 'local range', @local);
multirange_of('int4multirange', $int_range, $int);
multirange_of('datemultirange', $date_range, $date);
multirange_of('tstzmultirange', $stamp_range, $timestamptz);

my $hstore;
if ($node->psql('postgres', 'CREATE EXTENSION hstore') == 0)
{
	my $key = sub { quoted(text(10)) };

	$hstore = type('hstore', sub {
			my @pairs = times_of(4, sub { [ $key->(), value($text, 4) ] });

			return 'hstore(ARRAY[' . join(', ', map { $_->[0] } @pairs) . ']::text[], ARRAY['
			  . join(', ', map { $_->[1] } @pairs) . ']::text[])';
		}, 'hstore_to_jsonb(v)');
}
else
{
	note('hstore is not installed: nothing is tested of it');
}

my $very_positive = type('very_positive', sub { 1 + below(2_000_000_000) }, 'to_jsonb(v::int)');
type('numbers', sub { 'ARRAY[' . value($numeric, 3) . ', ' . value($numeric, 3) . ']::numbers' },
	qq{(SELECT jsonb_agg($numeric->{function}(x) ORDER BY n) FROM unnest(v::numeric[]) WITH ORDINALITY AS u(x, n))});
type('days', sub { $date_range->{value}->() . '::days' }, "$date_range->{function}(v::daterange)");

# attributes with odd names, one of them dropped
sql(qq{
	CREATE TYPE place AS (gone text, "street \\ ""No""" text, "größe" numeric, "since;" timestamptz, tags text[], note double precision);
	ALTER TYPE place DROP ATTRIBUTE gone;
});
my $place = composite_of('place',
	[ 'street \\ "No"', $text ], [ "größe", $numeric ], [ 'since;', $timestamptz ], [ 'tags', array_of($text, 1) ], [ 'note', $float ]);
my $places = array_of($place, 1);
sql(q{CREATE TYPE person AS (a text, home place, others place[], born daterange, photo bytea, mood mood, n very_positive, span interval, at inet, doc jsonb)});
my $person = composite_of('person',
	[ 'a', $text ], [ 'home', $place ], [ 'others', $places ], [ 'born', $date_range ], [ 'photo', $bytea ], [ 'mood', $mood ],
	[ 'n', $very_positive ], [ 'span', $interval ], [ 'at', $inet ], [ 'doc', $jsonb ]);
sql(q{CREATE DOMAIN someone AS person});
type('someone', sub { $person->{value}->() . '::someone' }, "$person->{function}(v::person)");
array_of($person, 1);
array_of($place, 2);
sql(q{CREATE TYPE tour AS (name text, at timestamp, exact timestamptz, days tsrange)});
my $tour = composite_of('tour', [ 'name', $text ], [ 'at', $local ], [ 'exact', $timestamptz ], [ 'days', $named{'local range'} ]);
$tour->{time_zone} = $zone;
array_of($tour, 1, @local);
array_of($local, 1, key => 'local array', @local);
array_of($_, 1) foreach $int, $bigint, $numeric, $float, $bool, $mood, $uuid, $date, $timestamp, $timestamptz, $interval, $inet, $bytea, $jsonb, $int_range, $date_range;
array_of($int, 2);
array_of($text, 2);
array_of($hstore, 1) if $hstore;

#
# A table with a column of each type, and a sync of it
#
$types[$_]{column} //= "c$_" foreach 0 .. $#types;
sql('CREATE TABLE thing (id int PRIMARY KEY, email text, class text, ' . join(', ', map { "$_->{column} $_->{sql}" } @types) . ')');
my $mappings = sub {
	my ($sync) = @_;

	return join('', map {
			"SELECT iterable_add_mapping('$sync', '$_->{column}', '$_->{column}'" . ($_->{time_zone} ? ", time_zone => '$_->{time_zone}'" : '') . ");\n"
		  } @types);
};
sql(q{SELECT iterable_create_sync('things', 'prod', 'thing', 'user', 'id', 'email', schedule => 'manual')});
sql($mappings->('things'));

# another, of rows as they were committed
sql(q{SELECT iterable_create_sync('committed', 'prod', 'thing', 'event', 'id', 'email', schedule => 'manual', capture => 'row')});
sql($mappings->('committed'));
sql(q{SELECT iterable_add_mapping('committed', 'eventName', constant => 'thing'), iterable_enable_sync('committed', 'updates_only')});
sql(q{CREATE TABLE made (LIKE thing)});

my @rows;
my $failures = 0;
for my $id (1 .. $ROWS)
{
	# a row has some of the columns; every tenth may have a value that can't be sent
	my $column_may = below(10) ? -1 : below(scalar @types);
	my @values;

	$bad = '';
	for my $i (0 .. $#types)
	{
		$may_be_bad = $i == $column_may;
		push @values, $may_be_bad || !below(4) ? $types[$i]{value}->() : 'NULL';
	}
	$failures++ if $bad;
	push @rows, "($id, 'user$id\@example.com', " . ($bad ? quoted($bad) : 'NULL') . ', ' . join(', ', @values) . ')';
	if (@rows == $ROWS_A_STATEMENT || $id == $ROWS)
	{
		sql('INSERT INTO made VALUES ' . join(",\n", @rows));
		@rows = ();
	}
}

#
# Under several settings
#
my %settings = (
	default => '',
	session => q{
		SET DateStyle = 'SQL, DMY';
		SET IntervalStyle = 'sql_standard';
		SET TimeZone = 'Asia/Kathmandu';
		SET extra_float_digits = -15;
		SET bytea_output = 'escape';
		SET xmlbinary = 'hex';
		SET xmloption = 'document';
		SET client_encoding = 'LATIN1';
		SET standard_conforming_strings = off;
		SET quote_all_identifiers = on;
		SET array_nulls = off;},
	role => q{
		ALTER ROLE CURRENT_USER SET DateStyle = 'German';
		ALTER ROLE CURRENT_USER SET IntervalStyle = 'postgres_verbose';
		ALTER ROLE CURRENT_USER SET bytea_output = 'escape';
		ALTER DATABASE postgres SET TimeZone = 'America/New_York';
		ALTER DATABASE postgres SET extra_float_digits = 3;
		\c postgres
		SHOW DateStyle;});
my ($locale) = split /\n/, sql(q{
	SELECT collname FROM pg_collation WHERE collprovider = 'c' AND collname ~ 'utf-?8$' ORDER BY collname = 'C.utf8', collname});
$settings{session} .= "SET $_ = '$locale';" foreach $locale ? qw(lc_monetary lc_numeric lc_time) : ();

my $part = 0;
foreach my $name (qw(default session role))
{
	sql("$settings{$name}\nINSERT INTO thing SELECT * FROM made WHERE id % 3 = $part");
	$part++;
}
foreach my $name (qw(default session role))
{
	sql("$settings{$name}\nCREATE TABLE preview_$name AS SELECT key, payload::text, problem FROM iterable_preview('things', $ROWS + 1)");
	is(sql("SELECT count(*) FROM preview_$name"), $ROWS, "rows under the settings: $name");
}
is(sql('SHOW DateStyle'), 'German, DMY', 'the role has its settings');
sql(q{ALTER ROLE CURRENT_USER RESET ALL; ALTER DATABASE postgres RESET ALL});
foreach my $name (qw(session role))
{
	is( sql(qq{
		SELECT count(*) FROM preview_default d FULL JOIN preview_$name o USING (key)
		WHERE (d.payload, d.problem) IS DISTINCT FROM (o.payload, o.problem)}),
		'0', "not a byte is another: $name");
}

#
# Against what is expected
#
my $pinned = q{SET extra_float_digits = 1; SET IntervalStyle = 'iso_8601'; SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC';};

cmp_ok($failures, '>', $ROWS / 100, 'some rows cannot be sent');
is( sql(q{
	SELECT string_agg(format('%s: %s instead of %s', key, coalesce(problem, 'sent'), coalesce(class, 'sent')), E'\n')
	FROM (SELECT * FROM preview_default JOIN thing ON id::text = key
		WHERE split_part(problem, ':', 1) IS DISTINCT FROM class ORDER BY id LIMIT 5) p}),
	'', 'they are failures with their reasons, and no others');
is(sql('SELECT count(*) FROM preview_default WHERE payload IS NULL'), $failures, 'they have no payload');
sql(q{CREATE TABLE parsed AS SELECT key::int AS id, (payload::jsonb) -> 'dataFields' AS fields FROM preview_default WHERE payload IS NOT NULL});
foreach my $type (@types)
{
	my ($column, $function) = @$type{qw(column function)};

	# a null, and one in JSON, is left out; as texts numbers have their scale
	my ($wrong, $count) = split /\|\x01/, sql(qq{
		$pinned
		SELECT string_agg(format(E'row %s: %s instead of\n%s', id, got, expected), E'\n' ORDER BY id)
			FILTER (WHERE n <= 3 AND got::text IS DISTINCT FROM expected::text), E'\x01' || count(got)
		FROM (SELECT *, row_number() OVER (PARTITION BY got::text IS DISTINCT FROM expected::text ORDER BY id) AS n
			FROM (SELECT id, fields -> '$column' AS got, nullif($function($column), 'null') AS expected
				FROM parsed JOIN thing USING (id)
				WHERE $column IS DISTINCT FROM NULL OR fields ? '$column' OFFSET 0) f) f});
	is($wrong, '', "$type->{sql} in $column");
	cmp_ok($count, '>', $ROWS / 10, 'often enough');
}
is( sql(q{SELECT count(*) FROM parsed, jsonb_object_keys(fields) AS k WHERE k NOT IN (SELECT attname FROM pg_attribute WHERE attrelid = 'thing'::regclass)}),
	'0', 'nothing else is sent');

#
# As they were committed: all of them are refused, and kept as they were sent
#
sql('TRUNCATE thing');
sql(q{ALTER SYSTEM SET iterable_sync.keep_failed_payloads = on; SELECT pg_reload_conf()});
$emulator->script({ path => '/api/events/trackBulk', status => 400, times => 0 });
sql(q{SELECT iterable_run('committed')});
wait_until(sub { sql(q{SELECT pending FROM iterable.sync_status WHERE sync = 'committed'}) eq '0' }, 'rows are sent as they were committed');
sql('INSERT INTO thing SELECT * FROM made');
sql(q{CREATE TABLE preview_committed AS SELECT key, payload::text, problem FROM iterable_preview('committed', 100000)});
is( sql(q{
	SELECT string_agg(format(E'%s: %s instead of\n%s', key, got, expected), E'\n')
	FROM (SELECT key, COALESCE(split_part(p.problem, ':', 1), p.payload) AS expected,
			CASE WHEN p.problem IS NULL THEN f.payload ELSE f.class END AS got
		FROM preview_committed p FULL JOIN iterable.sync_failure f USING (key)) x
	WHERE got IS DISTINCT FROM expected}),
	'', 'not a byte is another in rows that were stored');
is(sql(q{SELECT count(*) FROM iterable.failure WHERE sync = 'committed'}), $ROWS, 'all of them');
sql(q{SELECT iterable_drop_sync('committed')});

#
# In a database of another encoding
#
sub latin1
{
	my ($sql) = @_;

	utf8::encode($sql);
	my $result = $node->safe_psql('latin1', "SET client_encoding = 'UTF8'; $sql");
	utf8::decode($result);
	return $result;
}

sql(q{CREATE DATABASE latin1 ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'});
latin1(q{
	CREATE EXTENSION iterable_sync;
	SELECT iterable_create_connection('prod', 'us', 'email', api_key => 'test', base_url => 'http://127.0.0.1:9');
	CREATE TYPE pair AS ("élevée" text, x xml);
	CREATE TYPE text_range AS RANGE (subtype = text, collation = "C");
	CREATE TABLE person (id int PRIMARY KEY, email text DEFAULT 'a@example.com', p pair, r text_range);
	INSERT INTO person (id, p, r) VALUES (1, ('ça', '<é/>'), '[ä,ö)');
	SELECT iterable_create_sync('people', 'prod', 'person', 'user', 'id', 'email', schedule => 'manual');
	SELECT iterable_add_mapping('people', 'p', 'p'), iterable_add_mapping('people', 'r', 'r');
});
is( latin1(q{SELECT payload -> 'dataFields' FROM iterable_preview('people')}),
	q({"p":{"élevée":"ça","x":"<é/>"},"r":{"lower":"ä","upper":"ö","lower_inclusive":true,"upper_inclusive":false}}),
	'LATIN1 is converted');
if ($hstore)
{
	latin1(q{
		CREATE EXTENSION hstore;
		ALTER TABLE person ADD h hstore DEFAULT hstore('clé "1"', 'à\b');
		SELECT iterable_drop_mapping('people', 'p'), iterable_drop_mapping('people', 'r'), iterable_add_mapping('people', 'h', 'h');
	});
	is(latin1(q{SELECT payload -> 'dataFields' FROM iterable_preview('people')}), q({"h":{"clé \"1\"":"à\\\\b"}}), 'also in hstore');
}

#
# A composite type that is altered while a worker sends its values
#
sub state_of { return sql(q{SELECT concat_ws(' ', state, reason) FROM iterable.sync_status WHERE sync = 'altered'}); }
sub sent { my ($user) = grep { $_->{email} eq 'ann@example.com' } $emulator->users; return $user->{dataFields}{v}; }

$node->append_conf('postgresql.conf', 'iterable_sync.rescan_interval = 1s');
$node->reload;
sql(q{
	CREATE TYPE pair AS (a int, b text);
	CREATE TABLE altered (id int PRIMARY KEY, email text, v pair[]);
	INSERT INTO altered VALUES (1, 'ann@example.com', ARRAY[(1, 'x')::pair]);
	SELECT iterable_create_sync('altered', 'prod', 'altered', 'user', 'id', 'email');
	SELECT iterable_add_mapping('altered', 'v', 'v');
	SELECT iterable_enable_sync('altered', 'backfill');
});
synced($node, 'altered');
is_deeply(sent(), [ { a => 1, b => 'x' } ], 'a composite arrives');
sql(q{
	ALTER TYPE pair ADD ATTRIBUTE c numeric, DROP ATTRIBUTE a;
	ALTER TYPE pair RENAME ATTRIBUTE b TO d;
	UPDATE altered SET v[1].c = 2.5;
});
synced($node, 'altered');
is_deeply(sent(), [ { d => 'x', c => 2.5 } ], 'with the attributes that it has now');
sql(q{ALTER TYPE pair ADD ATTRIBUTE m money; UPDATE altered SET v[1].d = 'y'});
wait_until(sub { state_of() =~ /^paused a value of type public\.pair(\[\])? cannot be sent to Iterable/ }, 'one that cannot be sent pauses the sync');
is(sql('SELECT count(*) FROM iterable.failure'), '0', 'and is no failure of the rows');
sql(q{ALTER TYPE pair DROP ATTRIBUTE m});
wait_until(sub { sent()->[0]{d} eq 'y' }, 'which goes on when it has gone');
is(state_of(), 'enabled', 'by itself');

log_lacks($node, $emulator->key, 'the key is not in the log');
done_testing();
