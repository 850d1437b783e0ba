# Copyright (c) 2026, the iterable_sync developers

# README.md is true: its SQL runs as it stands there and does what it says,
# its settings, options, functions and types are those that there are.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use IterableSync::Test;
use IterableSync::Document;

my $readme = document('README.md');
my @blocks = blocks($readme);
my $emulator = start_emulator();
my $node = start_cluster('main', extension => 0);

sub sql
{
	return $node->safe_psql('postgres', $_[0]);
}

#
# The SQL
#
cmp_ok(scalar(@blocks), '>=', 2, 'there is SQL in README.md');

# What differs from a real account: where the key is, and where Iterable is.
my ($sql, $connections) = with_emulators(join('', map { $_->{text} } @blocks), $emulator);
is($connections, 1, 'a connection is made that has its key from a file');

my ($rc, $stdout, $stderr) = $node->psql('postgres', $sql, on_error_stop => 1);
is($rc, 0, 'the SQL of README.md runs');
is($stderr =~ s/^psql:\S+ //mgr, '', 'without a message');
like($stdout, qr/^reachable\|t\|.*\nTLS\|t\|.*\nkey accepted\|t\|/m, 'the connection is tested');
like($stdout, qr/^customers\|1\|ann\@example\.com\|.*\|accepted\|/m, 'a delivery can be seen');
like($stdout, qr/^customers\|prod\|public\.customers\|user\|upsert\|key\|continuous\|enabled\|/m, 'so can the status');
like($stdout, qr/^ann\@example\.com\|\|\{.*"name": "Ann".*\}$/m, 'and the user at Iterable');
my ($ann) = $emulator->users;
is($ann->{email}, 'ann@example.com', 'who is there');
is($ann->{dataFields}{name}, 'Ann', 'with a name');
is($ann->{dataFields}{address}{city}, 'Oslo', 'and a nested field of an expression');

sql(q{INSERT INTO signups VALUES (7, 'ann@example.com', 'pro', '2024-02-29 12:00+00')});
synced($node, 'signups');
my ($event) = $emulator->events;
is("$event->{eventName} $event->{createdAt} $event->{dataFields}{plan}",
	'Subscribe 1709208000 pro', 'a sign-up is an event');
is(sql(q{SELECT event_name FROM iterable_lookup_events('prod', email => 'ann@example.com')}),
	'Subscribe', 'that can be looked up');
is(sql('SELECT count(*) FROM iterable.failure'), '0', 'nothing has failed');

#
# Settings
#
my ($section) = $readme =~ /^## Settings\n(.*?)^## /ms;
my %settings = $section =~ /^\| `(iterable_sync\.\w+)` \| ([^|]*?) \|/mg;
is( join("\n", map { "$_ $settings{$_}" } sort keys %settings),
	sql(q{
		SELECT string_agg(concat_ws(' ', name, CASE boot_val WHEN '' THEN 'empty' ELSE boot_val END, unit),
			E'\n' ORDER BY name COLLATE "C")
		FROM pg_settings WHERE name LIKE 'iterable\_sync.%'}),
	'the settings and their defaults are those that there are');
is( sql(q{SELECT count(*) FROM pg_settings WHERE name LIKE 'iterable\_sync.%' AND short_desc = ''}),
	'0', 'each is described');

#
# Options of connections
#
my ($options) = $section =~ /^(Options of a connection: .*?\))\.$/ms;
my @options = $options =~ /`(\w+)`/g;
is( join(' ', sort @options),
	sql(q{
		SELECT string_agg(name, ' ' ORDER BY name COLLATE "C")
		FROM pg_proc, unnest(proargnames) AS name
		WHERE proname = 'iterable_create_connection' AND name NOT IN ('name', 'api_key', 'api_key_file')}),
	'the options are those of iterable_create_connection()');
my %defaults = $options =~ /`(\w+)`\s+\((\d+(?: s\b)?)/g;
is(join(' ', map { "$_=$defaults{$_}" =~ s/ //r } sort keys %defaults),
	'connect_timeout=5s events_rate=10 request_timeout=30s users_rate=5', 'with their defaults');
my %values = (
	data_center => 'us', project_type => 'email', base_url => $emulator->url, rate_group => 'x', update_only => 'off',
	map { $_ => $defaults{$_} =~ s/ //r } keys %defaults);
is( sql_error($node, 'CREATE SERVER every FOREIGN DATA WRAPPER iterable OPTIONS ('
		  . join(', ', map { "$_ '$values{$_}'" } @options) . ')'),
	'', 'a server takes them all');
like( sql_error($node, q{CREATE SERVER another FOREIGN DATA WRAPPER iterable OPTIONS (data_center 'us', project_type 'email', nonsense 'x')}),
	qr/^HV00D: /, 'and no others');

#
# Functions
#
my %named = map { $_ => 1 } $readme =~ /\b(iterable_(?!sync\b)\w+)\b/g;
my %known = map { $_ => 1 } split /\n/, sql(q{
	SELECT p.proname FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	WHERE p.proname LIKE 'iterable\_%'});
is(join(' ', grep { !$known{$_} } sort keys %named), '', 'every function that is named exists');
is( sql(q{
	SELECT string_agg(p.proname, ' ') FROM pg_proc p
	JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
	WHERE p.proname LIKE 'iterable\_%' AND obj_description(p.oid, 'pg_proc') IS NULL}),
	'', 'every function that exists is described');
my %views = map { $_ => 1 } $readme =~ /\biterable\.((?!com\b)\w+)/g;
is( join(' ', grep { sql("SELECT to_regclass('iterable.$_') IS NULL") eq 't' } sort keys %views),
	'', 'every view that is named exists');

#
# Types
#
my ($types) = $readme =~ /^(\| PostgreSQL \| in the payload \|\n.*?)^$/ms;
my %examples = (
	integers => 'smallint, integer, bigint',
	numeric => 'numeric, numeric(10,2)',
	floats => 'real, double precision',
	boolean => 'boolean',
	text => 'text',
	varchar => 'varchar, varchar(9)',
	char => 'char(3), "char"',
	name => 'name',
	uuid => 'uuid',
	enums => 'mood',
	timestamp => 'timestamp',
	timestamptz => 'timestamptz',
	date => 'date',
	json => 'json',
	jsonb => 'jsonb',
	interval => 'interval',
	(map { $_ => $_ } qw(time timetz inet cidr macaddr macaddr8 xml bytea point hstore)),
	bit => 'bit(3)',
	varbit => 'varbit, varbit(3)',
	ranges => 'int4range, tstzrange',
	multiranges => 'int4multirange, tstzmultirange',
	composites => 'pair, signups',
	domains => 'positive, pairs',
	'arrays of these' => 'integer[], text[], mood[], timestamptz[], jsonb[], pair[], positive[], tsrange[], bytea[]');
my @typed = map { split /, / } $types =~ /^\| ([^|]+?) \| (?!in the payload|---)/mg;
is(join(', ', sort grep { $_ ne 'NULL' && $_ ne 'PostgreSQL' && $_ !~ /^-/ } @typed),
	join(', ', sort keys %examples), 'there is an example of each type');
sql(q{
	CREATE TYPE mood AS ENUM ('good', 'bad');
	CREATE TYPE pair AS (a int, b text);
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE DOMAIN pairs AS pair[];
});
if ($node->psql('postgres', 'CREATE EXTENSION hstore') != 0)
{
	note('hstore is not installed: nothing is tested of it');
	delete $examples{hstore};
}

sub mapping_error
{
	my ($type, $destination) = @_;

	$destination //= $type eq 'point' ? 'v_geo_location' : 'v';

	return sql_error($node, qq{
		BEGIN;
		CREATE TABLE typed (id int PRIMARY KEY, email text, v $type);
		SELECT iterable_create_sync('typed', 'prod', 'typed', 'user', 'id', 'email');
		SELECT iterable_add_mapping('typed', '$destination', column_name => 'v');
		ROLLBACK;});
}

# Commas in numeric(10,2) are none between types.
foreach my $type (map { split /, (?!\d)/ } values %examples)
{
	is(mapping_error($type), '', "a column of type $type can be mapped");
}
foreach my $type (qw(money money[] tsvector pg_lsn oid circle point[]))
{
	like(mapping_error($type), qr/^0A000: .*\n.*HINT/s, "one of type $type cannot");
}
foreach my $type ('json', 'jsonb')
{
	is(mapping_error($type, 'v_geo_location'), '', "$type may be a place");
}
foreach my $type ('text', 'float8[]', 'pair')
{
	like(mapping_error($type, 'v_geo_location'), qr/^42804: .*\n.*HINT/s, "$type may not");
}
like(mapping_error('point', 'v'), qr/^0A000: .*\n.*HINT.*_geo_location/s, 'a point is nothing else');

my ($keys) = $readme =~ /its key, of type (.*?); in tables/s;
my @keys = split /,\s+|\s+or\s+/, $keys;
is(scalar(@keys), 9, 'there are types of unique fields');

sub key_error
{
	my ($type) = @_;

	return sql_error($node, qq{
		BEGIN;
		CREATE TABLE keyed (id $type PRIMARY KEY, email text);
		SELECT iterable_create_sync('keyed', 'prod', 'keyed', 'user', 'id', 'email');
		ROLLBACK;});
}
foreach my $type (map { $_ eq 'enum' ? 'mood' : $_ } @keys)
{
	is(key_error($type), '', "a unique field may be of type $type");
}
foreach my $type ('double precision', 'jsonb', 'bytea', 'interval', 'integer[]')
{
	like(key_error($type), qr/^\w{5}: /, "but not of type $type");
}

log_lacks($node, $emulator->key, 'the key is not in the log');
done_testing();
