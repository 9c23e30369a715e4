// Runs OpenAI's own SDK with identity tokens of a mount instead of a key, for a number of seconds.
//
// usage: node keyless.cjs PATH BASE_URL TOKEN_URL SECONDS   (with the packages of package.json in NODE_PATH, VAULT_ADDR and VAULT_TOKEN)
//
// PATH is identity-token/:name of a mount. The script prints how often the SDK asked for an identity token, and how many calls of
// OpenAI it made. Any failure ends the script.

const { OpenAI } = require('openai');

const [path, baseURL, tokenUrl, seconds] = process.argv.slice(2);
const { VAULT_ADDR, VAULT_TOKEN } = process.env;

async function readToken() {
  const answer = await fetch(`${VAULT_ADDR}/v1/${path}`, { headers: { 'X-Vault-Token': VAULT_TOKEN } });
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  return (await answer.json()).data;
}

async function main() {
  const first = await readToken();
  let asked = 0;
  const client = new OpenAI({
    workloadIdentity: {
      identityProviderId: first.identity_provider_id,
      serviceAccountId: first.service_account_id,
      provider: {
        tokenType: 'jwt',
        getToken: async () => {
          asked += 1;
          return (await readToken()).identity_token;
        },
      },
    },
    baseURL,
    maxRetries: 0,
    // The SDK has no setting for the URL of the token exchange.
    fetch: (url, options) => fetch(String(url) === 'https://auth.openai.com/oauth/token' ? tokenUrl : url, options),
  });
  let calls = 0;
  const end = Date.now() + 1000 * Number(seconds);
  while (Date.now() < end) {
    const models = await client.models.list();
    if (models.data.length === 0) throw new Error('OpenAI lists no models');
    calls += 1;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  console.log(JSON.stringify({ identity_tokens: asked, calls }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
